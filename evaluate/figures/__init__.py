"""Figures drawn from stored predictions, one module each; importing this draws nothing and loads no matplotlib."""
