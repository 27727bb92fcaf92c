"""Stage 1: corpora become manifests, media become frames, frames go to the cache."""
