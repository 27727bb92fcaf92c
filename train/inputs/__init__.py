"""The room between the labels and the heads: streams joined in time, transforms, targets, batches."""
