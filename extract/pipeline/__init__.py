"""A corpus through encoders into the cache: batches, commits, progress, projections."""
