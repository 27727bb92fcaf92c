"""Small synthetic corpora, built with the cache's own API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import Cache, InputFailure, Item, Manifest, Track, Utterance
from emocache.train.dataset import Dataset, load_dataset
from emocache.train.folds import Fold, make_folds
from emocache.train.reading import load_settings
from emocache.train.settings import Settings

EMOTIONS = ("angry", "happy", "sad")
RATE = 20.0  # Hz
EXPERIMENT = """
streams = ["toy"]
targets = ["emotion"]
[protocol]
name = "speaker_folds"
folds = 3
[head]
kind = "probe"
[training]
learning_rate = 0.02
batch_size = 8
epochs = 15
"""
FRAME_EXPERIMENT = """
streams = ["toy"]
task = "frame_regression"
targets = ["valence"]
[protocol]
name = "speaker_folds"
folds = 3
[head]
kind = "probe"
[training]
learning_rate = 0.02
batch_size = 8
epochs = 15
"""


@dataclass
class Corpus:
    """Utterances and the frames of their one stream."""

    rows: list[Utterance]
    frames: dict[str, npt.NDArray[Any]]


class Toy:
    """Makes corpora, caches, settings and datasets in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "store"

    def corpus(
        self, speakers: int = 6, clips: int = 6, seed: int = 0, separation: float = 2.0, longest: int = 12
    ) -> Corpus:
        """Clips of 3 to `longest` frames of 8 channels whose mean tells the emotion, a speaker's offset, and noise."""
        random = np.random.default_rng(seed)
        centres = random.normal(size=(len(EMOTIONS), 8))
        corpus = Corpus([], {})
        for speaker in range(1, speakers + 1):
            offset = random.normal(size=8) * 0.3
            for clip in range(clips):
                emotion = clip % len(EMOTIONS)
                length = int(random.integers(3, longest + 1))
                noise = random.normal(size=(length, 8))
                frames = (separation * centres[emotion] + offset + noise).astype(np.float32)
                times = np.arange(0.025, length / RATE, 0.04)
                valence = np.interp(times, (np.arange(length) + 0.5) / RATE, frames[:, 0])
                row = Utterance(
                    f"spk{speaker}_{clip}",
                    speaker=f"S{speaker}",
                    session=f"D{(speaker + 1) // 2}",
                    gender="female" if speaker % 2 else "male",
                    split="train" if speaker < speakers - 1 else "valid" if speaker == speakers - 1 else "test",
                    labels={"emotion": EMOTIONS[emotion], "intensity": float(frames.mean())},
                    tracks={"valence": Track(times, valence)},
                )
                corpus.rows.append(row)
                corpus.frames[row.id] = frames
        return corpus

    def cache(
        self, corpus: Corpus | None = None, name: str = "toys", stream: str = "toy", failures: Sequence[str] = ()
    ) -> Cache:
        """A cache with one corpus and one stream."""
        corpus = corpus or self.corpus()
        cache = Cache(self.root)
        cache.put_manifest(Manifest.from_utterances(name, corpus.rows))
        self.commit(cache, name, stream, corpus.frames, failures)
        return cache

    def recipe(self, encoder: str = "toy", dim: int = 8, rate: float = RATE, **more: Any) -> dict[str, Any]:
        """The recipe of a regular float32 stream."""
        times = {"rate": rate, "first_start": 0.0, "width": 1 / rate}
        return {"kind": "frames", "encoder": encoder, "layer": None, "inputs": ["text"], "dim": dim,
                "dtype": "float32", "times": times, "aux": {}, **more}  # fmt: skip

    def commit(
        self,
        cache: Cache,
        corpus: str,
        stream: str,
        frames: Mapping[str, npt.NDArray[Any]],
        failures: Sequence[str] = (),
        recipe: dict[str, Any] | None = None,
    ) -> None:
        """Write one stream; ids in `failures` fail."""
        dim = next(iter(frames.values())).shape[1]
        writer = cache.create_stream(corpus, stream, recipe or self.recipe(stream, dim))
        lost = {id_: InputFailure("undecodable", "not audio") for id_ in failures}
        writer.commit("ab" * 8, {id_: Item(f) for id_, f in frames.items() if id_ not in lost}, lost)
        writer.finish()

    def experiment(self, text: str = EXPERIMENT, name: str = "small") -> str:
        """The path of an experiment file."""
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return str(path)

    def settings(self, *changes: str) -> Settings:
        """A small classification, with `dotted.key=value` changes."""
        return load_settings(self.experiment(), changes)[1]

    def frame_settings(self, *changes: str) -> Settings:
        """A small frame-wise regression."""
        return load_settings(self.experiment(FRAME_EXPERIMENT, "framewise"), changes)[1]

    def load(self, settings: Settings, cache: Cache | None = None) -> tuple[Dataset, list[Fold]]:
        """Dataset and folds of the corpus "toys", which is made where no cache is given."""
        dataset = load_dataset(cache or self.cache(), ["toys"], settings)
        return dataset, make_folds(dataset.examples, settings.protocol)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """The maker of test material."""
    return Toy(tmp_path)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Several suites share few cores, and one thread adds up in one order."""
    torch.set_num_threads(1)
