"""Frames in time, in pure numpy: the common grid, pieces of an utterance, projections."""
