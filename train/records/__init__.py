"""The contract between training and evaluation: stored runs, their predictions, and the metrics. Never torch."""
