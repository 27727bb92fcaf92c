"""MSP-Podcast, MELD and CMU-MOSEI in miniature: from the owners' layouts to features, and the first to its table."""

import json
import math
import re
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import emocache
from emocache.cache import Cache

from .conftest import Run

LETTERS = "ASHUFDCN"
PARTS = {"Train": 3, "Development": 1, "Test1": 1, "Test2": 1}  # speakers, each with every letter


def write_tone(path: Path, hertz: float, seconds: float = 0.4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(16000 * seconds)) / 16000
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(2 * math.pi * hertz * times)).astype("<i2").tobytes())


def write_msp_podcast(root: Path) -> int:
    """The owner's layout: a tone for each letter, a little other for each speaker; and two that no class is of."""
    rows, speaker = [], 0
    for part, speakers in PARTS.items():
        for _ in range(speakers):
            speaker += 1
            for k, letter in enumerate(LETTERS):
                name = f"MSP-PODCAST_{speaker:04}_{k:04}.wav"
                write_tone(root / "Audios" / name, 200 * 1.35**k + 3 * speaker)
                gender = "Male" if speaker % 2 else "Female"
                rows.append(f"{name},{letter},{1 + 0.7 * k},{6.5 - 0.6 * k},{2 + 0.4 * k},{speaker},{gender},{part}")
    for k, (letter, part) in enumerate((("X", "Train"), ("O", "Test1"), ("", "Test3"))):
        write_tone(root / f"Audios/MSP-PODCAST_9999_{k:04}.wav", 900 + k)
        numbers = "4.0,4.0,4.0" if letter else ",,"
        rows.append(f"MSP-PODCAST_9999_{k:04}.wav,{letter},{numbers},Unknown,Unknown,{part}")
    (root / "Labels").mkdir()
    header = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
    (root / "Labels/labels_consensus.csv").write_text("\n".join([header, *rows]) + "\n")
    return len(rows)


@pytest.fixture
def cache(tmp_path: Path, emocache_: Run) -> Path:
    root = tmp_path / "MSP-PODCAST-1.11"
    count = write_msp_podcast(root)
    where = ["--cache", tmp_path / "store", "--device", "cpu"]
    done = emocache_("extract", "msp-podcast", "--data", root, "--encoder", "logmel", *where)
    assert done.status == 0 and str(count) in done.out + done.err, done
    return tmp_path / "store"


def test_from_the_owners_layout_to_the_published_numbers(cache: Path, tmp_path: Path, emocache_: Run) -> None:
    runs = tmp_path / "runs"
    cheap = [word for change in ("streams=['logmel']", "head.hidden=[16]", "training.epochs=3", "training.batch_size=8")
             for word in ("--set", change)]  # fmt: skip
    for name in ("categories", "attributes"):
        where = ["--cache", cache, "--runs", runs, "--corpus", "msp-podcast", "--device", "cpu"]
        done = emocache_("train", f"msp-podcast/{name}", *where, *cheap)
        assert done.status == 0, done.err
    done = emocache_("evaluate", runs, "--table", "msp-podcast/challenge")
    assert done.status == 0, done.err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.out.splitlines() if line.startswith("|")]
    heading, _, ours, published = rows
    assert heading[2:] == ["macro-F1", "mean CCC"]
    assert published[1:] == ["published (not comparable)", "0.410", "0.593"]
    assert "scored on Test3, whose labels are not given out" in done.out
    results = {result["experiment"]: result for result in evaluated(runs, emocache_)}
    of_classes, of_values = (results[f"msp-podcast/{name}"] for name in ("categories", "attributes"))
    assert float(ours[2]) == round(of_classes["metrics"]["macro_f1"]["mean"], 3)
    cccs = [of_values["metrics"][f"ccc.{name}"]["mean"] for name in ("arousal", "valence", "dominance")]
    assert float(ours[3]) == pytest.approx(sum(cccs) / 3, abs=5e-4)
    # One speaker's eight letters of Test1, and for numbers the one of O as well; nothing of Test2 and Test3.
    assert [one["coverage"]["test"] for one in (of_classes, of_values)] == [8, 9]


def evaluated(runs: Path, emocache_: Run) -> list[Any]:
    """The results that `emocache evaluate` writes; it names the published number of the classes."""
    done = emocache_("evaluate", runs)
    assert done.status == 0 and "published 0.410 (msp-podcast/challenge), not compared:" in " ".join(done.out.split())
    found: list[Any] = json.loads((runs / "evaluation/results.json").read_text())["results"]
    return found


def test_meld_as_unpacked_is_one_command_away_from_features(tmp_path: Path, emocache_: Run) -> None:
    root = tmp_path / "MELD.Raw"
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    row = '1,"Oh, ""that"".",Ross,joy,positive,0,{},4,4,"00:12:24,660","0:12:20,915"'
    parts = {"train": "train/train_splits", "dev": "dev/dev_splits_complete", "test": "output_repeated_splits_test"}
    for number, (part, folder) in enumerate(parts.items()):
        for k in range(2):  # the content tells what a file is, not its name
            write_tone(root / folder / f"dia0_utt{k}.mp4", 200 + 100 * number + 20 * k)
        (root / f"{part}_sent_emo.csv").write_text("\n".join([header, row.format(0), row.format(1)]) + "\n")
    where = ["--cache", tmp_path / "store", "--device", "cpu"]
    done = emocache_("extract", "meld", "--data", root, "--encoder", "mfcc", *where)
    assert done.status == 0, done.err
    stream = Cache(tmp_path / "store").stream("meld", "mfcc")
    assert sorted(stream.ids) == sorted(f"dia0_utt{k}-{part}" for part in parts for k in range(2))


def test_cmu_mosei_by_the_table_that_the_page_makes(tmp_path: Path, emocache_: Run) -> None:
    """The script of docs/corpora.md, on a label file of two videos: three segments with sound, and one without."""
    page = (Path(emocache.__file__).parent / "docs/corpora.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(\"\"\"mosei_table\.py.*?)```", page, re.DOTALL)
    (tmp_path / "mosei_table.py").write_text(script)
    names = ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]
    with h5py.File(tmp_path / "CMU_MOSEI_Labels.csd", "w") as file:
        file["All Labels/metadata/dimension names"] = np.array([json.dumps(names)], dtype=h5py.string_dtype())
        for video, count in (("-3g5yACwYnA", 3), ("03bSnISJMiM", 1)):
            file[f"All Labels/data/{video}/intervals"] = np.array([[0.3 * k, 0.3 * k + 0.2] for k in range(count)])
            file[f"All Labels/data/{video}/features"] = np.arange(7 * count).reshape(count, 7) / 3
    write_tone(tmp_path / "Raw/Audio/Full/WAV_16000/-3g5yACwYnA.wav", 300, seconds=1.0)
    subprocess.run([sys.executable, tmp_path / "mosei_table.py", tmp_path], check=True)
    named = ["--map", "table=mosei.csv,corpus=mosei", "--cache", tmp_path / "store", "--device", "cpu"]
    done = emocache_("extract", "table", "--data", tmp_path, "--encoder", "mfcc", *named)
    assert done.status == 0, done.err
    manifest = Cache(tmp_path / "store").manifest("mosei")
    assert manifest.ids == [f"-3g5yACwYnA_{k}" for k in range(3)] and manifest.label_names == sorted(names)
    last = list(manifest)[2]
    assert last.session == "-3g5yACwYnA" and last.duration == pytest.approx(0.2)
    assert last.labels == {name: pytest.approx((14 + k) / 3) for k, name in enumerate(names)}
