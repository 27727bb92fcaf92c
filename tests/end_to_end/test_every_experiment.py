"""Every shipped experiment through the command line: one epoch of one fold on a part of the demo corpus.

The utterances, speakers, words and tracks are the demo corpus's; labels it lacks are made up, and so are the frames,
whose streams have the names, and the rates or words, of those that the experiments ask for.
"""

import zlib
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from emocache import cli
from emocache.cache import Cache, Item, Manifest, Track, Utterance
from emocache.evaluate.scoring.stored_runs import read_run
from emocache.extract.corpora import demo
from emocache.extract.corpora.files import MediaHasher
from emocache.train.config.experiment_files import open_experiment
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.fusion_settings import FusionSettings
from emocache.train.config.loading import load_experiment
from emocache.train.config.search import search_points
from emocache.train.config.stream_lists import corpora_of_all, experiments_for, wanted_streams

SHARES = ("anger", "boredom", "calmness", "concentration", "determination", "excitement", "interest", "sadness",
          "tiredness")  # fmt: skip
RATE = 10.0  # Hz
DIM = 24
WORDS = ("glove", "roberta", "all-MiniLM", "distilbert")  # the beginnings of streams with a frame a word
VECTORS = ("functionals", "-cls", "alexnet", "sentence")  # streams with one frame an utterance
AVEC = {stream.name for stream in wanted_streams(experiments_for("sewa"), "sewa")}
ACTORS = "benchmarks/emobox"  # the beginning of experiments whose fold file lists RAVDESS's actors
LAYERS = ("demo-layer-1", "demo-layer-2")  # for the experiments that leave the streams to the user
# What is changed besides epochs and seeds where a shipped size would take minutes; of the patterns that fit the last.
SMALLER = {
    **{f"paper1/{kind}-*": ["features.grid_hz=10.0"] for kind in ("audio", "video", "av", "fusion")},
    "paper2/*": ["targets=['anger', 'interest']", "head.hidden=16"],
    "paper2/transformer": ["targets=['anger', 'interest']"],
    "paper2/faithful-*": ["targets=['anger', 'interest']", "head.hidden=16", "head.padded_frames=60"],
    "msp-podcast/*": ["head.hidden=[8]"],
    "*-2d": ["head.frames=60", "head.channels=[4, 8]", "head.kernels=[3, 5]"],
    "paper4/camulenet-code": ["head.spectrogram_frames=80", "head.mfcc_frames=40"],
    "paper4/camulenet-trained-alexnet": ["head.spectrogram_frames=80"],
}


def leaves_streams_open(name: str) -> bool:
    """Whether an experiment has no streams of its own."""
    return not {"streams", "fusion"} & set(open_experiment(name).values)


def utterances(folder: Path) -> list[Utterance]:
    """Two clips of each speaker, of two emotions in turn."""
    pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra 'demo'")
    first = [u for u in demo.load(folder, {}, MediaHasher()) if u.id.endswith("-1")]
    return [extended(u) for number, u in enumerate(first) if number // 4 % 2 == number % 2]


def extended(u: Utterance) -> Utterance:
    """An utterance with the label columns, the session and the culture's name that the experiments ask for."""
    random = np.random.default_rng(zlib.crc32(u.id.encode()))
    number = int(str(u.speaker).rpartition("-")[2])
    dominance = Track(u.tracks["valence"].times, np.clip(u.tracks["arousal"].values + 0.1, -1, 1))
    labels: dict[str, Any] = {
        **u.labels,
        **{name: float(share) for name, share in zip(SHARES, random.dirichlet(np.ones(len(SHARES))), strict=True)},
        "emotion4": u.labels["emotion"],
        "emotion7": u.labels["emotion"],
        "liking": float(random.normal()),
        "dominance": float(dominance.values.mean()),
        "partition": {"train": "Train", "valid": "Development", "test": "Test1"}[str(u.split)],
        "dialogue": f"{u.culture}-{number // 2}",
        "utterance": u.id[:-1] + ("x" if number % 2 else "y"),
    }
    culture = str(u.culture).capitalize()
    tracks = {**u.tracks, "dominance": dominance}
    return replace(u, session=f"{u.culture}-D{number}", culture=culture, labels=labels, tracks=tracks)


def streams() -> dict[str, tuple[int, set[str]]]:
    """{stream: (channels, stored masks)} of everything that any experiment names."""
    wanted: dict[str, tuple[int, set[str]]] = {layer: (DIM, set()) for layer in LAYERS}
    for name in experiment_names():
        if leaves_streams_open(name):
            continue
        settings = load_experiment(name).settings
        if isinstance(settings, FusionSettings):
            continue
        for _, point in search_points(settings):
            for role, names in point.streams.items():
                how = point.features.of(role)
                for stream in names:
                    dim, masks = wanted.get(stream, (DIM, set()))
                    wanted[stream] = (max(dim, how.pca or 0), masks | ({how.where} if how.where else set()))
    return wanted


def item(stream: str, u: Utterance, dim: int, masks: set[str]) -> Item:
    """Random frames: of words, of the whole utterance, or at 10 Hz."""
    random = np.random.default_rng(zlib.crc32(f"{stream}/{u.id}".encode()))
    if any(part in stream for part in VECTORS):
        times = np.full((1, 2), np.nan)
    elif stream.startswith(WORDS):
        times = np.array([[np.nan, np.nan], *([word.start, word.end] for word in u.words), [np.nan, np.nan]])
    else:
        starts = np.arange(max(3, int((u.duration or 0) * RATE))) / RATE
        times = np.stack([starts, starts + 1 / RATE], axis=1)
    frames = random.normal(size=(len(times), dim)).astype(np.float32)
    return Item(frames, times, {mask: random.random(len(times)) < 0.9 for mask in masks})


def write(cache: Cache, corpus: str, rows: list[Utterance], wanted: dict[str, tuple[int, set[str]]]) -> None:
    """A corpus and its streams."""
    cache.put_manifest(Manifest.from_utterances(corpus, rows))
    for name, (dim, masks) in wanted.items():
        recipe = {"kind": "frames", "encoder": name, "layer": None, "inputs": ["text"], "dim": dim, "dtype": "float32",
                  "times": None, "aux": {mask: {"dtype": "bool", "shape": []} for mask in sorted(masks)}}  # fmt: skip
        writer = cache.create_stream(corpus, name, recipe)
        writer.commit("ab" * 8, {u.id: item(name, u, dim, masks) for u in rows})
        writer.finish()


@dataclass
class Place:
    """Where the cache is and the runs go."""

    cache: Path
    runs: Path

    def train(self, name: str) -> Result:
        """`emocache train` with one epoch of the first fold."""
        corpora = ["ravdess", "emodb"] if name == "cross-corpus" else ["demo"]
        corpora = ["sewa"] if name.startswith("paper1/avec") else corpora
        corpora = ["actors"] if name.startswith(ACTORS) else corpora
        where = ["--cache", str(self.cache), "--runs", str(self.runs), *(f"--corpus={corpus}" for corpus in corpora)]
        smaller = [changes for pattern, changes in SMALLER.items() if fnmatch(name, pattern)]
        changes = ["training.epochs=1", "seeds=[0]", *(smaller[-1] if smaller else [])]
        if leaves_streams_open(name):
            changes.append(f"streams={list(LAYERS)}")
        short = ["--fold", "0", "--device", "cpu", *(word for change in changes for word in ("--set", change))]
        return CliRunner().invoke(cli.app, ["train", name, *where, *short])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A cache with all corpora and streams."""
    folder = tmp_path_factory.mktemp("every")
    rows = utterances(folder / "corpus")
    cache = Cache(folder / "store")
    write(cache, "demo", rows, streams())
    for corpus, languages in {"ravdess": ("en", "de"), "emodb": ("hu", "el")}.items():
        spoken = [u for u in rows if u.id.split("-")[0] in languages]
        emotions = ("angry", "disgust", "fearful", "happy", "neutral", "sad")  # the demo corpus lacks two of them
        own = [replace(u, labels={**u.labels, "emotion": emotions[n % 6]}) for n, u in enumerate(spoken)]
        write(cache, corpus, own, {layer: (DIM, set()) for layer in LAYERS})
    write(cache, "actors", actors(rows), streams())
    write(cache, "sewa", avec(rows), {name: wanted for name, wanted in streams().items() if name in AVEC})
    return Place(folder / "store", folder / "runs")


def actors(rows: list[Utterance]) -> list[Utterance]:
    """The same with numbers for speakers, as RAVDESS has them; those after 24 are nobody there."""
    numbers = {speaker: f"{n:02}" for n, speaker in enumerate(sorted({str(u.speaker) for u in rows}), 1)}
    return [replace(u, speaker=numbers[str(u.speaker)]) for u in rows]


def avec(rows: list[Utterance]) -> list[Utterance]:
    """Germans and Hungarians in the parts of the AVEC package, as its loader names them."""
    spoken = [u for u in rows if u.id.split("-")[0] in ("de", "hu")]
    parts = ["train" if str(u.speaker)[-1] in "123" else "valid" for u in spoken]
    return [
        replace(u, culture=u.id[:2].upper(), split=part, session=None) for u, part in zip(spoken, parts, strict=True)
    ]


CORPORA = sorted(set().union(*corpora_of_all().values()) - {"demo"})


@pytest.mark.slow
@pytest.mark.parametrize("corpus", CORPORA)
def test_what_a_corpus_is_enough_for_can_be_trained_once_its_streams_are_there(tmp_path: Path, corpus: str) -> None:
    """`emocache train` on the streams that `emocache extract CORPUS` would make: all experiments that are for it."""
    names = experiments_for(corpus)
    rows = {"sewa": avec, "ravdess": actors}.get(corpus, list)(utterances(tmp_path / "corpus"))
    every = streams()
    write(Cache(tmp_path / "store"), corpus, rows, {s.name: every[s.name] for s in wanted_streams(names, corpus)})
    where = ["--cache", str(tmp_path / "store"), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(cli.app, ["train", *where, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert f"{corpus}: {len(names)} experiments are for it, {len(names)} can be trained here" in done.output, (
        done.output
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", experiment_names())
def test_it_trains(place: Place, name: str) -> None:
    done = place.train(name)
    assert done.exit_code == 0, done.output
    (folder,) = (place.runs / name).glob("*/*/fold0-seed0")
    assert read_run(folder).record.experiment == name
    table = pq.read_table(folder / "predictions.parquet")
    assert set(table["part"].to_pylist()) == {"valid", "test"}
    predicted = [column for column in table.column_names if column.startswith(("prob.", "prediction."))]
    assert predicted
    for column in predicted:
        values = table[column].combine_chunks()
        numbers = values.flatten() if table[column].type.num_fields else values
        assert np.isfinite(np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)).all(), column
