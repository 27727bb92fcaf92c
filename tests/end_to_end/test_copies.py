"""A corpus that has recordings twice, under two speakers, through the whole command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .conftest import Run

SPEAKERS = (7, 12, 46, 53, 60)
LEVELS = ("low", "neutral", "high")


@pytest.fixture
def baved(tmp_path: Path) -> Path:
    """Six files of each speaker; 4 of speaker 53 are copies of speaker 46's, as in BAVED."""
    folder = tmp_path / "baved"
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = ["file,speaker,level,batch"]
    for speaker in SPEAKERS:
        for clip in range(6):
            name = f"{speaker}-{clip}.wav"
            if speaker == 53 and clip < 4:
                shutil.copy(folder / f"46-{clip}.wav", folder / name)
            else:
                tone = np.sin(2 * np.pi * (200 + 150 * (clip % 3)) * np.arange(4000) / 16000)
                soundfile.write(folder / name, 0.1 * tone + 0.01 * random.normal(size=4000), 16000)
            lines.append(f"{name},{speaker},{LEVELS[clip % 3]},{1 + speaker % 2}")
    (folder / "baved.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "levels.toml").write_text(
        'streams = "logmel"\ntargets = "level"\n[head]\nkind = "probe"\n[training]\nepochs = 2\n'
        '[selection]\nmetric = "loss"\n'
    )
    return folder


def test_copies_are_told_by_the_census_the_dry_run_and_the_run(baved: Path, emocache_: Run) -> None:
    there = baved.parent
    census = emocache_("corpora", "table", "--data", baved).out
    assert "groups of files with the same bytes: 4\n" in census
    assert (
        "speakers that share recordings, whom training counts as one: 1\n"
        "  46 = 53: 4 recordings, such as 46-0.wav = 53-0.wav\n"
    ) in census
    extract = ("extract", "table", "--data", baved, "--cache", there / "store", "--encoder", "logmel", "--map")
    assert emocache_(*extract, "corpus=baved").status == 0
    train = ("train", there / "levels.toml", "--corpus", "baved", "--cache", there / "store", "--runs", there / "runs")
    told = emocache_(*train, "--dry-run")
    assert "speakers that share a recording, which count as one: 46 = 53\n" in told.out
    assert "fold 2: 12 train, 6 valid, 12 test of 46, 53: 4 high, 4 low, 4 neutral\n" in told.out
    assert "warning: fewer than 20 groups (all 4 folds): intervals are drawn from 4 groups" in told.err
    ran = emocache_(*train)
    assert ran.status == 0 and "which count as one: 46 = 53\n" in ran.out and "4 trained, 0 reused" in ran.out
    assert ran.err.count("warning: ") == 2 and "warning: best epoch last (" in ran.err and "warning" not in ran.out
    again = emocache_(*train)
    assert again.err == ran.err and "0 trained, 4 reused" in again.out
    for path in (there / "runs").rglob("run.json"):
        stored = json.loads(path.read_text())
        assert stored["recordings"]["one_group"] == [["baved/46", "baved/53"]]
        assert stored["warnings"][0]["kind"] == "fewer than 20 groups"
    shown = " ".join(emocache_("evaluate", there / "runs").out.split())
    assert "levels [fewer than 20 groups, best epoch last" in shown and "bootstrap over groups" in shown
    assert "approximate below 20 of them" in shown


def test_a_projection_and_a_transfer_take_the_same_expression(baved: Path, emocache_: Run) -> None:
    there = baved.parent
    extract = ("extract", "table", "--data", baved, "--cache", there / "store", "--encoder", "logmel", "--map",
               "corpus=baved", "--pca", 2, "--fit-on")  # fmt: skip
    train = ("train", there / "levels.toml", "--corpus", "baved", "--cache", there / "store", "--runs", there / "runs",
             "--dry-run", "--set")  # fmt: skip
    transfer = 'protocol={name="transfer", train_on="%s", test_on="speaker=12|46|60", validation="random_utterance"}'
    for written in ("batch=2", "batch=2.0"):
        assert emocache_(*extract, written).status == 0
        assert emocache_(*train, transfer % written).status == 0
    for command, message in (
        ((*extract, "batch=3"), "expression 'batch=3': no utterance of corpus 'baved' has batch '3'; there are: 1, 2;"),
        ((*extract, "bacth=1"), "corpus 'baved' has no column 'bacth'; did you mean 'batch'? it has: speaker,"),
        ((*train, transfer % "batch=3"), "no utterance with a reference has batch '3'; there are: 1, 2; correct it"),
        (
            (*train, transfer % "bacth=1"),
            "corpus 'baved' has no column 'bacth'; did you mean 'batch'? it has: speaker,",
        ),
    ):
        ran = emocache_(*command)
        told = [line for line in ran.err.splitlines() if not line.startswith("on ")]  # the device
        assert ran.status == 1 and message in ran.err and len(told) == 1
