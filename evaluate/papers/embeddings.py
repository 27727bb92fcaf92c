"""Vectors that a head kept of test utterances: how well classes lie apart, and a map of them (CAMuLeNet, Figure 3)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from ..scoring.kept import read_kept
from ..scoring.result_groups import Cell, Result
from ..scoring.stored_predictions import read_predictions

Floats = NDArray[np.float64]

NEIGHBOURS = 5
COMPONENTS = 50
PERPLEXITY = 30.0
_SEED = 0


@dataclass(frozen=True)
class Embeddings:
    """The n test utterances of one run that have features and a class."""

    result: Result
    cell: Cell  # (fold, seed)
    vectors: Floats  # (n, D)
    classes: NDArray[np.int64]  # (n,) numbers into the result's classes


def read_embeddings(result: Result, fold: int | None = None) -> Embeddings | None:
    """Read the vectors of one fold's test part under its first seed.

    A map needs classes, more than `NEIGHBOURS` utterances, and two or more finite values each that are not all alike.

    Args:
        result: a classification's.
        fold: the first if not given. Under speaker folds the speakers of one fold's test part are new to the model; a
            map of the whole corpus would show utterances that it was trained on.

    Returns:
        The vectors with their classes; None if they were not kept, or make no map.

    Raises:
        EmocacheError: a file that cannot be read, or vectors of different sizes.
    """
    cell = min((c for c in result.runs if fold in (None, c[0])), default=None)
    kept = None if cell is None else read_kept(result.runs[cell], "embedding")
    if cell is None or kept is None or result.first.task != "classification":
        return None
    predictions = read_predictions(result.runs[cell], result.classes)
    known = dict(zip(predictions.utterances.tolist(), predictions.samples[""].reference.tolist(), strict=True))
    # Parts that vote for their utterance are not among the predictions.
    rows = [i for i, u in enumerate(kept.utterances.tolist()) if kept.parts[i] == "test" and u in known]
    vectors = kept.values[rows]
    if (
        len(rows) <= NEIGHBOURS
        or vectors.shape[1] < 2
        or not np.isfinite(vectors).all()
        or not np.ptp(vectors, 0).any()
    ):
        return None
    classes = np.array([known[u] for u in kept.utterances[rows].tolist()], np.int64)
    return Embeddings(result, cell, vectors, classes)


def nearest_neighbours_right(vectors: Floats, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell whether the majority of an utterance's `NEIGHBOURS` nearest others has its class, (n,).

    Distances are Euclidean; of classes with as many neighbours the first counts.
    """
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(vectors).kneighbors(return_distance=False)
    # (n, NEIGHBOURS) classes against all C: (n, C) votes; argmax takes the first of equals.
    votes = (classes[near][:, :, None] == np.arange(classes.max() + 1)).sum(axis=1)
    return np.asarray(votes.argmax(axis=1) == classes)


def silhouettes(vectors: Floats, classes: NDArray[np.int64]) -> Floats:
    """Compute each silhouette by Euclidean distance (Rousseeuw 1987), (n,); NaN where classes allow none."""
    if not 1 < len(np.unique(classes)) < len(classes):
        return np.full(len(classes), np.nan)
    return np.asarray(silhouette_samples(vectors, classes))


def plane(vectors: Floats) -> Floats:
    """Place the vectors in a plane: t-SNE of principal components, (n, D) to (n, 2), always the same.

    At most `COMPONENTS` components; the perplexity is `PERPLEXITY`, and less than a third of n.
    """
    count = min(COMPONENTS, *vectors.shape)
    components = PCA(count, svd_solver="full").fit_transform(vectors)
    # t-SNE looks at three neighbours for each unit of perplexity, and an utterance has n - 1.
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=_SEED).fit_transform(components), np.float64)
