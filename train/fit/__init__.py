"""One fold with one seed: the loop, its losses, the choice on validation, predictions."""
