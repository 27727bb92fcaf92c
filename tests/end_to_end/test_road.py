"""The whole road, from a folder of clips to a table row."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from emocache.cache import Cache
from emocache.extract.encoders.acoustic import LogMel
from emocache.extract.pipeline import machine

from .conftest import Run

RATE = 16_000
SPEAKERS, CLIPS = 4, 6
EXTRACT_ONLY = ("transformers", "tokenizers", "soundfile", "soxr", "av", "espeakng_loader")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Clips whose pitch tells the emotion, four speakers, a table."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "emotion", "spk"])
        for speaker in range(SPEAKERS):
            for clip in range(CLIPS):
                emotion, pitch = [("sad", 150.0), ("happy", 600.0)][clip % 2]
                n = int(rng.uniform(0.3, 0.8) * RATE)
                wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + 0.1 * speaker) * np.arange(n) / RATE)
                name = f"s{speaker}c{clip}.wav"
                soundfile.write(folder / name, wave + rng.normal(0, 0.01, n), RATE)
                table.writerow([name, emotion, f"s{speaker}"])
    return folder


def extract(run: Run, corpus: Path, cache: Path, *more: object) -> tuple[int, str, str]:
    return run("extract", "table", "--data", corpus, "--cache", cache, "--encoder", "logmel",
               "--map", "id=name,file=name,label=emotion,speaker=spk", *more)  # fmt: skip


def train(cache: Path, runs: Path) -> list[object]:
    return ["train", "probe", "--corpus", "table", "--cache", cache, "--runs", runs, "--set", 'streams=["logmel"]']


def predictions(runs: Path) -> list[dict[str, object]]:
    """Every prediction below a folder of runs, with the fold it was made in."""
    files = sorted(runs.rglob("predictions.parquet"))
    return [{"fold": f.parent.name, **row} for f in files for row in pq.read_table(f).to_pylist()]


def test_folder_to_table_row(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    store, runs = tmp_path / "store", tmp_path / "runs"
    assert extract(emocache_, corpus, store)[0] == 0
    again = extract(emocache_, corpus, store)
    assert again[0] == 0 and "nothing to extract" in again[1]
    first = emocache_(*train(store, runs))
    assert first.status == 0, first.err
    assert f"{SPEAKERS} trained, 0 reused" in first.out
    assert f"0 trained, {SPEAKERS} reused" in emocache_(*train(store, runs)).out
    # Signal transforms have no weights, which streams and runs say: a run on an older stream does not know.
    assert {stream["weights"] for f in runs.rglob("run.json") for stream in json.loads(f.read_text())["streams"]} == {
        ""
    }
    table = emocache_("evaluate", runs)
    assert table.status == 0 and "probe" in table.out
    document = json.loads(emocache_("evaluate", runs, "--json").out)
    (result,) = document["results"]
    wanted = {"experiment", "corpus", "streams", "protocol", "seeds", "folds", "coverage", "metrics"}
    assert wanted <= set(result)
    assert result["folds"] == SPEAKERS
    # A training ends with the score that evaluation gives; asked for more, it tells every epoch.
    score = result["metrics"]["accuracy"]
    assert f"accuracy (WA) {score['pooled']:.3f}, 95 % interval {score['ci95'][0]:.3f} to" in first.out
    told = emocache_(*train(store, tmp_path / "told"), "--fold", "0", "--verbose")
    assert "fold 0 seed 0" in told.err and ", epoch 1/" in told.err
    assert ", epoch 1/" not in first.err + first.out
    for metric in result["metrics"].values():
        assert {"mean", "std", "pooled", "ci95"} <= set(metric)
    assert result["metrics"]["accuracy"]["pooled"] == pytest.approx(
        np.mean([r["reference"] == r["prediction"] for r in predictions(runs) if r["part"] == "test"])
    )
    assert list((runs / "evaluation").glob("confusion-*.png"))
    for name in ("table.md", "table.tex", "table.csv", "results.json"):
        assert (runs / "evaluation" / name).stat().st_size


def test_a_copied_cache_trains_alone(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    """The media and the first cache gone, in a process that has none of the extract packages."""
    here, there = tmp_path / "a", tmp_path / "b"
    extract(emocache_, corpus, here)
    emocache_(*train(here, tmp_path / "runs-a"))
    assert emocache_("cache", "copy", here, there).status == 0
    shutil.rmtree(here)
    shutil.rmtree(corpus)
    forbid = f"import sys; sys.modules.update(dict.fromkeys({EXTRACT_ONLY})); from emocache.cli import main; main()"
    command = [sys.executable, "-c", forbid, *map(str, train(there, tmp_path / "runs-b"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert predictions(tmp_path / "runs-a") == predictions(tmp_path / "runs-b") != []


def test_ctrl_c_commits_what_is_finished(
    emocache_: Run, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    encode = LogMel.encode

    def interrupted(self: LogMel, clips: object, layers: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return encode(self, clips, layers)  # type: ignore[arg-type]

    monkeypatch.setattr(machine, "_FIRST", {"cpu": 2.0, "cuda": 2.0})
    monkeypatch.setattr(LogMel, "encode", interrupted)
    stopped = extract(emocache_, corpus, tmp_path / "store")
    assert stopped[0] == 130 and "same command" in stopped[2] and "Traceback" not in stopped[2]
    first = Cache(tmp_path / "store").stream("table", "logmel")
    assert 0 < len(first) < SPEAKERS * CLIPS
    monkeypatch.setattr(LogMel, "encode", encode)
    resumed = extract(emocache_, corpus, tmp_path / "store")
    assert resumed[0] == 0 and f"{SPEAKERS * CLIPS - len(first)} items committed" in resumed[1]


def test_incomplete_stream_and_leaking_pca_are_refused(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    store, runs = tmp_path / "store", tmp_path / "runs"
    extract(emocache_, corpus, store, "--limit", 20)
    refused = emocache_(*train(store, runs))
    assert refused.status == 1 and "incomplete" in refused.err and "--allow-incomplete" in refused.err
    assert emocache_(*train(store, runs), "--allow-incomplete").status == 0
    assert extract(emocache_, corpus, store, "--pca", 4, "--fit-on", "all")[0] == 0
    leak = emocache_(*train(store, runs)[:-1], 'streams=["logmel.pca4"]')
    assert leak.status == 1 and "logmel.pca4" in leak.err and "fit_scope" in leak.err
    assert (
        emocache_(*train(store, runs)[:-1], 'streams=["logmel.pca4"]', "--set", 'features.fit_scope="all"').status == 0
    )


def test_a_setting_given_by_hand_is_not_searched(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    extract(emocache_, corpus, tmp_path / "store")
    done = emocache_(*train(tmp_path / "store", tmp_path / "runs"), "--set", "training.weight_decay=0.5")
    assert done.status == 0
    for file in (tmp_path / "runs").rglob("run.json"):
        selection = json.loads(file.read_text())["selection"]
        assert selection["chosen"] == {} and len(selection["tried"]) == 1
    wrong = emocache_(*train(tmp_path / "store", tmp_path / "runs"),
                      "--set", 'search={"features.normalise" = ["train", "per_speaker"]}')  # fmt: skip
    assert wrong.status == 1 and "cannot be searched" in wrong.err


def test_misspelt_setting_suggests(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    extract(emocache_, corpus, tmp_path / "store")
    wrong = emocache_(*train(tmp_path / "store", tmp_path / "runs"), "--set", "training.epoch=3")
    assert wrong.status == 1 and "epochs" in wrong.err and "Traceback" not in wrong.err


def test_evaluating_nothing(emocache_: Run, tmp_path: Path) -> None:
    nothing = emocache_("evaluate", tmp_path)
    assert nothing.status == 1 and nothing.err.startswith("error: ")
