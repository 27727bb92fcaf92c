"""The layers that heads are put together from; they honour masks and know nothing of `Head`."""
