"""RAVDESS through encoders, what they give compared, and probes on it: shared by the benchmarks of encoders."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from emocache.cache import Utterance
from emocache.extract.corpora import MediaHasher
from emocache.extract.corpora import load as load_corpus
from emocache.extract.encoders import Clip, Encoder
from emocache.extract.pipeline.clips import Decoder
from emocache.extract.pipeline.machine import first_budget

_INVERSE_DECAYS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_DRAWS = 2000
Floats = npt.NDArray[np.float64]
Layer = int | None


def load_utterances(folder: Path) -> tuple[list[Utterance], Decoder]:
    """The utterances of RAVDESS, by id, and what decodes them."""
    manifest = load_corpus("ravdess", folder, mapping={}, hasher=MediaHasher())
    return sorted(manifest, key=lambda u: u.id), Decoder(folder, frozenset(("audio",)))


def batches(encoder: Encoder, utterances: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """Batches as extraction cuts them on a CPU."""
    left = sorted(utterances, key=lambda u: -encoder.cost(u))
    while left:
        count = first_budget("cpu").items(encoder.cost(left[0]))
        yield left[:count]
        left = left[count:]


def encoded(encoder: Encoder, clips: Sequence[Clip], layers: Sequence[Layer]) -> dict[str, dict[Layer, Any]]:
    """{id: {layer: frames}} of one batch."""
    results: Any = encoder.encode(clips, layers)
    return {
        clip.id: {layer: result[layer].frames for layer in layers} for clip, result in zip(clips, results, strict=True)
    }


def encoded_all(
    encoder: Encoder, cut: Sequence[Sequence[Clip]], layers: Sequence[Layer]
) -> dict[str, dict[Layer, Any]]:
    """{id: {layer: frames}} of all batches."""
    return {name: found for batch in cut for name, found in encoded(encoder, batch, layers).items()}


def distance(some: Mapping[str, Any], others: Mapping[str, Any], layer: Layer) -> float:
    """The mean over frames of 1 - cosine."""
    found = []
    for name, frames in some.items():
        a, b = frames[layer].astype(np.float64), others[name][layer].astype(np.float64)
        found.append(1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    return float(np.concatenate(found).mean())


def mean_vectors(
    encoder: Encoder, utterances: Sequence[Utterance], decode: Decoder, layers: Sequence[Layer]
) -> dict[Layer, Floats]:
    """{layer: (N, D)}, the mean of each clip's frames."""
    means: dict[str, dict[Layer, Floats]] = {}
    for batch in batches(encoder, utterances):
        for i, of_layers in encoded(encoder, [decode(u) for u in batch], layers).items():
            means[i] = {layer: frames.mean(axis=0, dtype=np.float64) for layer, frames in of_layers.items()}
    return {layer: np.stack([means[u.id][layer] for u in utterances]) for layer in layers}


def probe(
    vectors: Floats, labels: npt.NDArray[np.str_], speakers: npt.NDArray[np.str_]
) -> tuple[npt.NDArray[np.bool_], float]:
    """Train a probe for each two speakers; what it gets right of theirs, and the accuracy on those that validate."""
    right, validated = np.zeros(len(labels), np.bool_), []
    everyone = np.unique(speakers)
    pairs = [everyone[first : first + 2] for first in range(0, len(everyone), 2)]
    for fold, pair in enumerate(pairs):
        test, check = np.isin(speakers, pair), np.isin(speakers, pairs[(fold + 1) % len(pairs)])
        train = ~(test | check)
        scaled = StandardScaler().fit(vectors[train]).transform(vectors)
        models = [LogisticRegression(C=c, max_iter=2000).fit(scaled[train], labels[train]) for c in _INVERSE_DECAYS]
        # The loss tells more than the accuracy of a hundred clips.
        best = max(models, key=lambda model: _likelihood(model, scaled[check], labels[check]))
        right[test] = best.predict(scaled[test]) == labels[test]
        validated.append(float(best.score(scaled[check], labels[check])))
    return right, float(np.mean(validated))


def difference(
    right: npt.NDArray[np.bool_], base: npt.NDArray[np.bool_], speakers: npt.NDArray[np.str_]
) -> tuple[float, float]:
    """The 95 % bootstrap interval, over speakers and then their clips, of the difference of two accuracies."""
    random = np.random.default_rng(0)
    of_speaker = [(right.astype(float) - base)[speakers == one] for one in np.unique(speakers)]
    draws = []
    for _ in range(_DRAWS):
        chosen = random.integers(0, len(of_speaker), len(of_speaker))
        draws.append(np.concatenate([random.choice(of_speaker[k], len(of_speaker[k])) for k in chosen]).mean())
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _likelihood(model: Any, vectors: Floats, labels: npt.NDArray[np.str_]) -> float:
    columns = np.searchsorted(model.classes_, labels)
    return float(model.predict_log_proba(vectors)[np.arange(len(labels)), columns].mean())
