"""The numbers that papers published, and the results that stand beside them."""
