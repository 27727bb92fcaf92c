"""Figures 4 and 5 of paper 1, from gates that runs kept."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emocache.cache import EmocacheError
from emocache.evaluate.papers.gate_figures import (
    frequency_figure,
    save_channel_gates,
    similarity_figure,
    similarity_limits,
)
from emocache.evaluate.papers.gated_channels import GatedChannels, gated_channels
from emocache.evaluate.papers.gates import appearances, families, heaviest, read_gates, similarity
from emocache.evaluate.report import evaluate_runs, write_report
from emocache.extract.encoders import REGISTRY

CHANNELS, WIDTH = 6, 9
CULTURES = {"zh": "valid", "uk": "valid", "hu": "test", "de": "test"}
STREAMS = {"frames": [f"hubert-large.pca{CHANNELS}", "vgg-face"]}
CODES = {"C1": ["zh"], "C2": ["hu"], "C3": ["de"]}

Clips = Mapping[str, np.ndarray[Any, np.dtype[np.float64]]]
"""Culture -> (n, WIDTH) gates."""


@pytest.fixture
def gated(write_run: Any) -> Any:
    """Write a run that kept gates: training cultures in the validation part, the others in the test part as well."""

    def write(target: str, seed: int, number: int, **fields: Any) -> Clips:
        generator = np.random.default_rng(number)
        clips = {culture: generator.uniform(size=(4, WIDTH)) for culture in CULTURES}
        label = {f"reference.{target}": 0.5, f"prediction.{target}": 0.25}
        rows: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        for culture, part in CULTURES.items():
            for i, gate in enumerate(clips[culture]):
                who = {"id": f"{culture}{i}", "speaker": f"{culture}{i}", "group": f"{culture}{i}", "culture": culture}
                rows.append({**who, "part": part, **label})
                kept.append(
                    {"part": part, "corpus": "demo", "id": who["id"], "culture": culture, "gate": gate.tolist()}
                )
        kept.append({**kept[-1], "part": "valid", "gate": [0.0] * WIDTH})  # a test culture is not seen in validation
        own = {
            "experiment": f"paper1/cats-{target}", "seed": seed, "folds": 1, "task": "regression", "targets": [target],
            "classes": None, "prior": {target: 0.5}, "protocol": {"name": "transfer", "codes": CODES},
            "config": {"targets": [target], "description": target, "streams": STREAMS, "head": {"kind": "cats"},
                       "keep": ["gate"], "seeds": [0, 1]},
        }  # fmt: skip
        folder = write_run(rows, **own | fields)
        for line in kept:
            line["gate.shape"] = [WIDTH]
        pq.write_table(pa.Table.from_pylist(kept), folder / "kept.parquet")
        return clips

    return write


def lines(path: Path) -> list[dict[str, str]]:
    """A CSV's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def one(paths: Sequence[Path], start: str, suffix: str) -> Path:
    """The only path with that name."""
    (path,) = (path for path in paths if path.name.startswith(start) and path.suffix == suffix)
    return path


def test_weights_are_means_over_clips_of_the_right_part(tmp_path: Path, gated: Any) -> None:
    seeds = [gated("arousal", seed, seed) for seed in (0, 1)]
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    gates = read_gates(evaluation.result)
    assert gates is not None
    assert gates.cultures == ["C1", "C2", "C3", "uk"] and gates.parts == ["valid", "test", "test", "valid"]
    assert (gates.clips, gates.task) == ([4] * 4, "arousal")
    assert gates.channels == "the first 6 of 9, of hubert-large.pca6"
    expected = [[clips[culture][:, :CHANNELS].mean(axis=0) for culture in ("zh", "hu", "de", "uk")] for clips in seeds]
    assert np.allclose(gates.weights, expected, rtol=1e-6)
    assert np.allclose(gates.mean, np.mean(expected, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        (["hubert-large.pca128", "vgg-face"], GatedChannels("hubert-large.pca128", 128)),
        (["mfcc.pca32", "vgg-face", "glove-840b"], GatedChannels("mfcc.pca32", 32)),
        (["hubert-large.L9.pca128", "marlin-base"], GatedChannels("hubert-large.L9.pca128", 128)),
        (["hubert-large", "vgg-face"], GatedChannels("hubert-large+vgg-face")),  # its width is not in the record
        (["vgg-face", "hubert-large.pca128"], GatedChannels("vgg-face+hubert-large.pca128")),
        (["vgg-face.pca128", "mfcc"], GatedChannels("vgg-face.pca128+mfcc")),
        (["hubert-large.pca128"], GatedChannels("hubert-large.pca128")),
        (["vgg-face"], GatedChannels("vgg-face")),
    ],
)
def test_the_sound_counts_where_it_is_known_to_come_first(streams: list[str], expected: GatedChannels) -> None:
    assert gated_channels({"streams": {"frames": streams}}) == expected


@pytest.mark.parametrize(
    "mixed",
    [
        {"features": {"pca": 64, "roles": {}}},
        {"features": {"pca": None, "roles": {"frames": {"pca": 64}}}},
        {"features": {"combine": "weighted"}},
        {"search": {"streams": [["mfcc"], ["vgg-face"]]}},
        {"search": {"features.pca": [64, 128]}},
        {"streams": {"audio": ["hubert-large.pca128"], "video": ["vgg-face"]}},
    ],
)
def test_all_channels_count_where_they_are_not_those_of_streams_side_by_side(mixed: dict[str, Any]) -> None:
    plain = {"streams": {"frames": ["hubert-large.pca128", "vgg-face"]}, "features": {"pca": None}, "search": {}}
    assert gated_channels(plain).first == 128
    assert gated_channels({**plain, **mixed}) == GatedChannels("hubert-large.pca128+vgg-face")


def test_the_sound_is_known_by_the_names_of_its_encoders() -> None:
    silent = (
        "face-boxes",
        "face-dlib",
        "vgg-face",
        "marlin",
        "glove",
        "bert",
        "roberta",
        "distilbert",
        "transcript-",
        "align-",
    )
    found = {name: gated_channels({"streams": {"frames": [f"{name}.pca8", "other"]}}).first == 8 for name in REGISTRY}
    assert found == {name: not name.startswith(silent) for name in REGISTRY}
    text = "all-MiniLM-L6-v2.from-whisper-base.pca8"
    assert gated_channels({"streams": {"frames": [text, "other"]}}).first is None


@pytest.mark.parametrize(
    ("streams", "told", "count"),
    [
        (["vgg-face"], "all 9, of vgg-face", WIDTH),
        (["hubert-large.pca9"], "all 9, of hubert-large.pca9", WIDTH),
        (["hubert-large.pca6", "vgg-face"], "the first 6 of 9, of hubert-large.pca6", CHANNELS),
    ],
)
def test_figures_say_which_channels_they_are_about(
    tmp_path: Path, gated: Any, streams: list[str], told: str, count: int
) -> None:
    config = {"targets": ["arousal"], "streams": {"frames": streams}, "head": {"kind": "cats"}, "seeds": [0]}
    gated("arousal", 0, 0, config=config)
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    gates = read_gates(evaluation.result)
    assert gates is not None and gates.weights.shape == (1, 4, count)
    assert frequency_figure([gates]).axes[0].get_xlabel() == f"channel: {told}"
    figure = similarity_figure([gates])
    title = figure.get_suptitle()
    assert figure.axes[-1].get_ylabel() == "Pearson correlation" and "the range of the data" in " ".join(title.split())
    ticks = frequency_figure([gates]).axes[0].get_yticks()
    assert (ticks == ticks.round()).all()
    assert told in " ".join(title.split())
    assert {
        line["channel"] for line in lines(one(save_channel_gates(tmp_path, [evaluation]), "gate-weights", ".csv"))
    } == {str(channel) for channel in range(count)}


def test_heaviest_channels_and_how_often_they_appear() -> None:
    weights = np.array([[0.1, 0.9, 0.9, 0.3], [0.5, 0.2, 0.1, 0.4]])
    assert heaviest(weights, 2).tolist() == [[1, 2], [0, 3]]
    assert heaviest(weights, 9).shape == (2, 4)
    assert appearances([weights, weights[:1]], 2).tolist() == [1, 2, 2, 1]


def test_similarity_is_centred() -> None:
    weights = np.array([[0.91, 0.92, 0.93], [0.81, 0.82, 0.83], [0.93, 0.92, 0.91], [0.5, 0.5, 0.5]])
    found = similarity(weights)
    assert np.allclose(found[:3, :3], [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert np.isnan(found[3]).all()
    assert similarity(weights[:1]).shape == (1, 1)


def test_tasks_of_one_model_share_their_figures(tmp_path: Path, gated: Any) -> None:
    clips = {target: [gated(target, seed, 10 * seed + number) for seed in (0, 1)]
             for number, target in enumerate(("arousal", "valence"))}  # fmt: skip
    gated("liking", 0, 99, config={"targets": ["liking"], "streams": STREAMS, "head": {"kind": "other"}, "seeds": [0]})
    evaluations = evaluate_runs([tmp_path / "runs"])
    found = [gates for e in evaluations if (gates := read_gates(e.result))]
    assert [[gates.task for gates in family] for family in families(found)] == [["arousal", "valence"], ["liking"]]
    (tmp_path / "out").mkdir()
    written = save_channel_gates(tmp_path / "out", evaluations)
    assert len(written) == len(set(written)) == 10 and all(path.is_file() for path in written)
    own = [path for path in written if "arousal" in path.name]
    assert {path.suffix for path in own} == {".csv", ".png"}

    means = {target: np.mean([[seed[c].mean(axis=0) for c in CULTURES] for seed in seeds], axis=0)
             for target, seeds in clips.items()}  # fmt: skip
    table = lines(one(own, "gate-similarity", ".csv"))
    assert len(table) == 2 * 4 * 4 and {line["measure"] for line in table} == {"Pearson"}
    told = next(x for x in table if (x["task"], x["culture"], x["other"]) == ("valence", "C2", "C3"))
    hu, de = (list(CULTURES).index(culture) for culture in ("hu", "de"))
    by_seed = [np.array([seed[culture].mean(axis=0) for culture in CULTURES]) for seed in clips["valence"]]
    pair = [np.corrcoef(m[hu, :CHANNELS], m[de, :CHANNELS])[0, 1] for m in (means["valence"], *by_seed)]
    assert float(told["similarity"]) == pytest.approx(pair[0], rel=1e-5)
    assert float(told["std_over_seeds"]) == pytest.approx(np.std(pair[1:]), rel=1e-5)

    # Six channels, all among the ten heaviest of each of the four cultures in both tasks.
    counts = lines(one(own, "gate-channels", ".csv"))
    assert [(x["channel"], x["appearances"], x["most_possible"]) for x in counts] == [
        (str(c), "8", "8") for c in range(CHANNELS)
    ]
    weights = lines(one(own, "gate-weights", ".csv"))
    assert len(weights) == 2 * 4 * CHANNELS
    told = next(x for x in weights if (x["task"], x["culture"], x["channel"]) == ("arousal", "C1", "2"))
    assert float(told["weight"]) == pytest.approx(means["arousal"][0, 2], rel=1e-5)
    assert (told["part"], told["clips"], told["seeds"]) == ("valid", "4", "2")


def test_the_report_writes_them_with_their_marks(tmp_path: Path, gated: Any) -> None:
    gated("arousal", 0, 0, marks=["teacher-forced decoding, not a prediction"])
    written = write_report(tmp_path / "out", evaluate_runs([tmp_path / "runs"]), [])
    assert all(path.parent == tmp_path / "out" for path in written)
    for kind in ("gate-weights", "gate-similarity"):
        marks = {line["marks"] for line in lines(one(written, kind, ".csv"))}
        assert marks == {"1 of 2 runs; teacher-forced decoding, not a prediction"}
    assert one(written, "gate-similarity", ".png").read_bytes()[:4] == b"\x89PNG"


def test_runs_without_gates_have_no_figures(tmp_path: Path, gated: Any, grid: Any) -> None:
    grid()
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    assert read_gates(evaluation.result) is None
    assert save_channel_gates(tmp_path, [evaluation]) == []


def test_gates_of_uneven_size_are_named(tmp_path: Path, gated: Any) -> None:
    gated("arousal", 0, 0)
    (evaluation,) = evaluate_runs([tmp_path / "runs"])
    path = next(tmp_path.rglob("kept.parquet"))
    line = {"part": "test", "corpus": "demo", "id": "a", "culture": "de"}
    pq.write_table(pa.Table.from_pylist([{**line, "gate": [0.1]}, {**line, "gate": [0.1, 0.2]}]), path)
    with pytest.raises(EmocacheError, match=r"kept\.parquet: gate of \[1, 2\] values.*train it again"):
        read_gates(evaluation.result)
    path.write_bytes(b"PAR1")
    with pytest.raises(EmocacheError, match=r"kept\.parquet: .*train it again"):
        read_gates(evaluation.result)


def test_colours_span_what_was_found() -> None:
    """.97 and 1.00 have colours far apart, and the ends are told."""
    narrow = np.array([[1.0, 0.97], [0.97, 1.0]])
    assert similarity_limits([narrow, np.full((2, 2), np.nan)]) == (0.97, 1.0)
    assert similarity_limits([np.ones((1, 1))]) == (0.5, 1.0)
    assert similarity_limits([np.full((1, 1), np.nan)]) == (0.0, 1.0)
