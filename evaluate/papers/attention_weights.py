"""Attention weights that a head kept of test utterances: the words that it looks at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scoring.kept import read_kept
from ..scoring.result_groups import Cell, Result, flat_texts
from ..scoring.stored_predictions import read_predictions

_HALVES = ("text", "audio")
"""CAN keeps the heads of its text, then as many of its audio."""


@dataclass(frozen=True)
class Attention:
    """The n test utterances of one run that have features and a class, in the order of their classes and names."""

    result: Result
    cell: Cell  # (fold, seed)
    utterances: list[str]  # n, "corpus/id"
    classes: list[tuple[str, str]]  # n, (true, predicted)
    channels: tuple[str, ...]  # C names: what looks; "" for the only one
    weights: list[NDArray[np.float64]]  # n of (L, C), each column adds up to 1: a word or frame each, mean over heads


def read_attention(result: Result) -> Attention | None:
    """Read the weights of the first fold's test part under its first seed.

    Args:
        result: a classification's.

    Returns:
        The weights; None if they were not kept, or no test utterance has any.

    Raises:
        EmocacheError: a file that cannot be read.
    """
    cell = min(result.runs)
    kept = read_kept(result.runs[cell], "attention", alike=False)
    if kept is None or result.first.task != "classification":
        return None
    predictions = read_predictions(result.runs[cell], result.classes)
    samples, names = predictions.samples[""], result.classes
    told = zip(samples.reference.tolist(), samples.prediction.tolist(), strict=True)
    known = dict(zip(predictions.utterances.tolist(), told, strict=True))
    # Parts that vote for their utterance are not among the predictions.
    rows = [i for i, u in enumerate(kept.utterances.tolist()) if kept.parts[i] == "test" and u in known]
    rows.sort(key=lambda i: (known[str(kept.utterances[i])][0], str(kept.utterances[i])))
    if not rows:
        return None
    channels = _HALVES if flat_texts(result.first.config).get("head.kind") == "can" else ("",)
    own = [str(kept.utterances[i]) for i in rows]
    classes = [(names[known[u][0]], names[known[u][1]]) for u in own]
    weights = [_by_channel(kept.arrays[i], len(channels)) for i in rows]
    return Attention(result, cell, own, classes, channels, weights)


def _by_channel(weights: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """Take the mean over the heads of each channel, (L, heads) to (L, C)."""
    heads = weights.reshape(len(weights), channels, -1)
    return np.asarray(heads.mean(axis=2))
