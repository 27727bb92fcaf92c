"""Stored predictions become numbers: scores, intervals, comparisons."""
