"""Weights of encoders: the hub, single files by their addresses, and pickles, which are opened in one place."""
