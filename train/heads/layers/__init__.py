"""What heads are put together from: masked layers that several of them use."""
