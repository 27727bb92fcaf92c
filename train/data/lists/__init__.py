"""Fold files as somebody released them, and the utterances of the corpora that are meant."""
