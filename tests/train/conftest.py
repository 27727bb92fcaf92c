"""Small synthetic corpora, built with the cache's own API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import Cache, InputFailure, Item, Manifest, Track, Utterance
from emocache.train.config.loading import load_settings
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.data.reading import load_dataset
from emocache.train.protocols.folds import Fold, make_folds

EMOTIONS = ("angry", "happy", "sad")
RATE = 20.0  # Hz
EXPERIMENT = """
streams = ["toy"]
targets = ["emotion"]
[protocol]
name = "group_folds"
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
name = "group_folds"
folds = 3
[head]
kind = "probe"
[training]
learning_rate = 0.02
batch_size = 8
epochs = 15
"""


if TYPE_CHECKING:
    from .cases import Case


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

    def streams(self, cache: Cache, corpus: Corpus, absent: Sequence[str] = ()) -> None:
        """Four streams beside "toy", made of the same frames; those in `absent` fail in every third utterance."""
        random = np.random.default_rng(1)
        wide = random.normal(size=(8, 24)).astype(np.float32)
        lost = list(corpus.frames)[1::3]

        def failures(name: str) -> list[str]:
            return lost if name in absent else []

        slow = {i: f[::2, :5] for i, f in corpus.frames.items()}
        self.commit(cache, "toys", "slow", slow, failures("slow"), self.recipe("slow", 5, RATE / 2))
        picture = {i: f @ wide for i, f in corpus.frames.items()}
        self.commit(cache, "toys", "picture", picture, failures("picture"), self.recipe("picture", 24))
        vector = {
            i: Item(f.mean(axis=0, keepdims=True)[:, :6], np.full((1, 2), np.nan)) for i, f in corpus.frames.items()
        }
        words = {}
        for i, f in corpus.frames.items():
            count = min(4, len(f))
            edges = np.linspace(0, len(f) / RATE, count + 1)
            # The second word is the same in all utterances, and so is a special token without a place in time.
            said = np.stack([part.mean(axis=0)[:4] for part in np.array_split(f, count)])
            said[1:2] = 1.0
            times = np.stack([edges[:-1], edges[1:]], axis=1)
            words[i] = Item(
                np.concatenate([np.zeros((1, 4), np.float32), said]).astype(np.float32),
                np.concatenate([np.full((1, 2), np.nan), times]),
            )
        for name, items in {"vector": vector, "words": words}.items():
            recipe = {**self.recipe(name, items[next(iter(items))].frames.shape[1]), "times": None}
            writer = cache.create_stream("toys", name, recipe)
            gone = {i: InputFailure("undecodable", "not audio") for i in failures(name)}
            writer.commit("ab" * 8, {i: item for i, item in items.items() if i not in gone}, gone)
            writer.finish()

    def case_settings(self, case: "Case", *more: str) -> Settings:
        """The settings of a case of `cases`."""
        task = {"emotion": "classification", "valence": "frame_regression"}.get(case.target, "regression")
        streams = ", ".join(f'{role} = "{stream}"' for role, stream in case.streams.items())
        words = [f"features.{role}.words=true" for role, stream in case.streams.items() if stream == "words"]
        common = [f"task={task}", f"targets={case.target}", "training.learning_rate=0.03"]
        changes = [f"streams={{{streams}}}", *common, *words]
        text = EXPERIMENT.replace('kind = "probe"', f'kind = "{case.changes[0].removeprefix("head.kind=")}"')
        return load_settings(self.experiment(text, "case"), [*changes, *case.changes, *more])[1]

    def case_dataset(self, case: "Case", settings: Settings, longest: int, absent: Sequence[str] = ()) -> Dataset:
        """18 clips of 3 to `longest` frames; the streams of the roles in `absent` lack a third of them."""
        corpus = self.corpus(speakers=3, longest=longest)
        lacking = [case.streams[role] for role in absent]
        cache = self.cache(corpus, failures=list(corpus.frames)[1::3] if "toy" in lacking else ())
        self.streams(cache, corpus, lacking)
        return load_dataset(cache, ["toys"], settings)

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
