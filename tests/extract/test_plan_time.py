"""The time in the plan: what earlier runs recorded, else a guess; what a run measures, and what it remembers of it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from soundfile import write
from typer.testing import CliRunner

from emocache.cache import Cache, Manifest, Utterance
from emocache.cli import app
from emocache.extract.goal_plan import plan_streams
from emocache.extract.goals import rates
from emocache.extract.goals.passes import Goal, Making
from emocache.extract.goals.times import Work, about, guess, roughly, times
from emocache.extract.pipeline import machine, progress
from emocache.extract.pipeline.progress import Pace, Progress
from emocache.extract.plan_table import plan_lines
from emocache.train.config.stream_lists import wanted_streams

HOUR = Manifest.from_utterances("toys", [Utterance(f"{n:03}", duration=36.0, text="so") for n in range(100)])
PLAIN = Making()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOCACHE_CHECKPOINTS", str(tmp_path / "home"))
    return tmp_path / "home"


def lines(tmp_path: Path, wanted: list[str | Goal], known: dict[str, float], fetches: bool = True) -> list[str]:
    goals = [Goal(one) if isinstance(one, str) else one for one in wanted]
    plans = list(plan_streams(Cache(str(tmp_path / "store")), HOUR, goals, None, None))
    return list(plan_lines("toys", plans, fetches, known, False))


def test_recorded_rates_are_remembered_by_hardware_and_setting() -> None:
    assert rates.recorded_rates("CPU") == {}
    rates.record_rates("CPU", {"a": 2.0, "b": 3.0})
    rates.record_rates("GPU", {"a": 80.0})
    rates.record_rates("CPU", {"a": 4.0})
    rates.record_rates("CPU", {})
    assert rates.recorded_rates("CPU") == {"a": 4.0, "b": 3.0} and rates.recorded_rates("GPU") == {"a": 80.0}
    assert len({rates.setting("vgg-face", how) for how in (PLAIN, Making(fps=5), Making(precision="bf16"))}) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"CPU": 3}', '{"CPU": {"a": "x", "b": null, "c": -1, "d": 0, "e": NaN, "f": true}}', "\0"]
)
def test_a_damaged_memory_is_none_and_is_made_again(home: Path, text: str) -> None:
    home.mkdir()
    (home / "rates.json").write_text(text)
    assert rates.recorded_rates("CPU") == {}
    rates.record_rates("CPU", {"a": 4.0})
    assert rates.recorded_rates("CPU") == {"a": 4.0}
    json.loads((home / "rates.json").read_text())


def test_a_memory_that_cannot_be_written_stops_nothing(home: Path) -> None:
    home.write_text("no folder")
    rates.record_rates("CPU", {"a": 4.0})
    assert rates.recorded_rates("CPU") == {}


def test_each_encoder_is_counted_once() -> None:
    def work(encoder: str, media: float = 100.0, text_from: str = "") -> Work:
        return Work(encoder, encoder, text_from, PLAIN, media)

    known = {rates.setting("mfcc", PLAIN): 10.0, rates.setting("transcript-whisper-base", PLAIN): 2.0}
    said, text = work("transcript-whisper-base"), work("bert-base", text_from="transcript-whisper-base")
    found = times(
        [[work("mfcc")], [work("mfcc")], [said, text], [said], [work("logmel", 0.0)], [work("logmel", 60.0)]],
        known, False,
    )  # fmt: skip
    assert [one.seconds for one in found[:2]] == [10.0, 0.0] and [one.shared for one in found] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    assert found[2].seconds == pytest.approx(50 + 100 / guess(text, False)) and found[2].guessed
    assert not found[0].guessed and found[4].seconds == 0 and found[5].guessed


def test_guesses_are_of_the_right_order() -> None:
    def speed(name: str, weights: str, gpu: bool = False, how: Making = PLAIN) -> float:
        return guess(Work(name, weights, "", how, 1.0), gpu, cores=4)

    base, large = speed("hubert-base", "hubert-base"), speed("hubert-large", "hubert-large")
    assert 3 < base / large < 6  # 12 layers of 768 beside 24 of 1024
    assert speed("hubert-large", "hubert-large", gpu=True) > 3 * large and speed("mfcc", "mfcc") > 100
    assert speed("vgg-face", "vgg-face", how=Making(fps=5)) == pytest.approx(5 * speed("vgg-face", "vgg-face"))
    assert speed("lab/model", "lab/model") <= large  # nobody knows it
    assert speed("transcript-whisper-base", "whisper-base") < speed("whisper-base", "whisper-base")


def test_the_plan_tells_recorded_times_and_marks_guesses(tmp_path: Path) -> None:
    known = {rates.setting("mfcc", PLAIN): 2.0, rates.setting("hubert-large", PLAIN): 0.5}
    told = lines(tmp_path, ["mfcc.pca2", "hubert-large", "hubert-large.L3"], known)
    assert told[0] == "3 streams of toys, 100 utterances: 0 there, 3 to make, 0 cannot be made here"
    assert told[1] == "to make: about 739 MB, about 2 h 30 min (as earlier runs here went)"
    assert [line.split("  ")[-1] for line in told[3:6]] == ["30 min", "2 h", "shared"]
    told = lines(tmp_path, ["mfcc.pca2", "wavlm-large"], known)
    assert told[1].endswith("(partly a guess, marked ?; no run recorded here)") and told[4].endswith(" ?")
    told = lines(tmp_path, ["mfcc.pca2", "wavlm-large"], known, fetches=False)
    assert told[0].endswith("0 there, 1 to make, 1 cannot be made here") and told[4].endswith("  weights missing")
    assert told[1] == "to make: about 1 MB, about 30 min (as earlier runs here went)"


@pytest.mark.parametrize("fetches", [True, False])
def test_no_line_of_a_plan_is_wrapped(tmp_path: Path, fetches: bool) -> None:
    told = lines(tmp_path, [Goal(one.name, PLAIN, one.source) for one in wanted_streams(["all"])], {}, fetches)
    assert max(map(len, told)) <= 100
    table = told[2 : told.index("weights:")]
    assert max(map(len, table)) <= 80 and len(table) > 20
    cells = [line.split("  ")[-1] for line in table if not line.startswith("  " + line.strip())]
    assert all(cells)
    starts = {line.index(" of 100") for line in table if " of 100" in line}
    assert len(starts) == 1  # aligned


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [(0, "under a minute", "under a minute"), (59, "under a minute", "under a minute"), (60, "1 min", "1 min"),
     (569, "9 min", "9 min"), (571, "10 min", "10 min"), (3400, "55 min", "50 min"), (3455, "1 h", "1 h"),
     (9000, "2 h 30 min", "2 h"), (35900, "10 h", "10 h"), (100_000, "28 h", "28 h"), (200_000, "2 days", "2 days")],
)  # fmt: skip
def test_times_are_said_no_finer_than_they_are_known(seconds: float, exact: str, rough: str) -> None:
    assert (about(seconds), roughly(seconds)) == (exact, rough)


def test_a_pace_shares_the_time_out_among_encoders() -> None:
    now = [0.0]
    pace = Pace(360.0, "CPU", PLAIN, lambda: now[0])
    assert not pace.settled and pace.rates() == {}
    for _ in range(2):
        now[0] += 20.0
        pace(list(HOUR)[:2], {"slow": 15.0, "fast": 3.0}, {})
    assert pace.settled and pace.left() == pytest.approx(40 * (360 - 144) / 144)
    found = pace.rates()
    assert found["fast"] == pytest.approx(5 * found["slow"])
    assert sum(144 / rate for rate in found.values()) == pytest.approx(40.0)
    with pace:
        pass
    assert rates.recorded_rates("CPU") == {rates.setting(name, PLAIN): rate for name, rate in found.items()}


@pytest.mark.parametrize(
    ("waits", "told"),
    [({"decoder": 9.0, "writer": 1.0}, "decoder"), ({"decoder": 1.0, "writer": 9.0}, "writer"),
     ({"decoder": 2.0, "writer": 2.0}, "encoder"), ({}, "encoder")],
)  # fmt: skip
def test_what_is_waited_for_is_told(waits: dict[str, float], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    pace = Pace(3600.0, "CPU", PLAIN, lambda: now[0])
    with Progress(100, lambda: now[0], pace) as shown:
        for _ in range(3):
            now[0] += 10.0
            pace(list(HOUR)[:1], {"slow": 10.0}, waits)
            shown(1, 1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert "waits_for" not in lines[0] and lines[-1]["waits_for"] == told


@pytest.mark.parametrize("terminal", [True, False])
def test_the_first_batches_correct_what_was_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    now = [0.0]
    pace = Pace(3600.0, "CPU", PLAIN, lambda: now[0])
    with Progress(100, lambda: now[0], pace) as shown:
        for _ in range(4):
            now[0] += 130.0
            pace(list(HOUR)[:1], {"slow": 130.0}, {})
            shown(1, 0)
    told = capsys.readouterr().err
    assert told.count("measured:") == 1 and "measured: about 3 h 30 min to go in this pass" in told


def test_a_run_remembers_its_pace_and_the_next_plan_goes_by_it(
    tmp_path: Path, home: Path, voice: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.wav", voice(0.5), 16_000)
    (tmp_path / "list.csv").write_text("file,emotion\na.wav,sad\n")
    command = ["extract", "table", "--data", str(tmp_path), "--cache", str(tmp_path / "store"), "--map"]
    command += ["table=list.csv", "--stream", "mfcc", "--device", "cpu"]
    monkeypatch.setattr(progress, "_RECORDED", float("inf"))
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not (home / "rates.json").exists()  # too short a run says nothing
    monkeypatch.setattr(progress, "_RECORDED", 0.0)
    home.mkdir(exist_ok=True)
    (home / "rates.json").write_text("{")
    assert CliRunner().invoke(app, [*command[:-3], "logmel", *command[-2:]]).exit_code == 0
    assert list(rates.recorded_rates(machine.hardware("cpu"))) == [rates.setting("logmel", PLAIN)]
    rates.record_rates(machine.hardware("cpu"), {rates.setting("mfcc39", PLAIN): 0.001})
    done = CliRunner().invoke(app, [*command[:-3], "mfcc39", *command[-2:], "--dry-run"])
    assert done.exit_code == 0 and "about 8 min (as earlier runs here went)" in done.stdout.splitlines()[1]
