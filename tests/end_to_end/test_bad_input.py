"""Whatever a corpus holds: one line that names the thing and the remedy, never a traceback, and nothing else lost."""

import csv
import importlib
import json
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emocache.cache import Cache
from emocache.cache.verify import verify
from emocache.extract.pipeline import stage

from .conftest import Run

RATE = 16_000


def tone(seconds: float = 0.5, pitch: float = 200.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def wav_header(channels: int) -> bytes:
    """A WAV file that claims many channels and holds none of their samples."""
    form = struct.pack("<HHIIHH", 1, channels, RATE, RATE * channels * 2, channels * 2, 16)
    return b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 0)


def truncated_flac(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[:9000])


BAD: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "empty.wav": (lambda path: path.write_bytes(b""), {"empty"}),
    "text.wav": (lambda path: path.write_text("this is not audio"), {"undecodable"}),
    "nan.wav": (lambda p: soundfile.write(p, np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT"), {"not_finite"}),
    "nothing.wav": (lambda path: soundfile.write(path, np.zeros(0), RATE), {"empty"}),
    "channels.wav": (lambda path: path.write_bytes(wav_header(1000)), {"undecodable"}),
    "cut.flac": (truncated_flac, {"truncated", "undecodable"}),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A table corpus of three sound clips."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("a.wav", "b.wav", "c.wav"):
        soundfile.write(folder / name, tone(pitch=100.0 + ord(name[0])), RATE)
    write_table(folder, [[name, "happy", name[0]] for name in ("a.wav", "b.wav", "c.wav")])
    return folder


def write_table(folder: Path, rows: list[list[str]], header: tuple[str, ...] = ("file", "emotion", "spk")) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def extract(run: Run, corpus: Path, cache: Path | str, *more: object) -> tuple[int, str, str]:
    return run("extract", "table", "--data", corpus, "--cache", cache, "--encoder", "logmel",
               "--map", "id=file,file=file,label=emotion,speaker=spk", *more)  # fmt: skip


def one_line_error(err: str) -> str:
    lines = [line for line in err.splitlines() if line and not line.startswith("{")]
    assert lines and lines[-1].startswith("error: "), err
    assert "Traceback" not in err
    return lines[-1]


def test_broken_media_are_committed_failures_and_nothing_else_is_lost(
    emocache_: Run, corpus: Path, tmp_path: Path
) -> None:
    for name, (make, _) in BAD.items():
        make(corpus / name)
    names = ["a.wav", "b.wav", "c.wav", *BAD]
    write_table(corpus, [[name, "happy", name[0]] for name in names])
    status, out, err = extract(emocache_, corpus, tmp_path / "store")
    assert status == 0 and "Traceback" not in err
    stream = Cache(tmp_path / "store").stream("table", "logmel")
    assert stream.ids == ["a.wav", "b.wav", "c.wav"]
    assert set(stream.failures) == set(BAD) and not stream.missing
    for name, (reason, _) in stream.failures.items():
        assert reason in BAD[name][1], (name, stream.failures[name])
        assert name in err
    assert f"{len(BAD)} failed" in out
    assert extract(emocache_, corpus, tmp_path / "store", "--strict")[0] == 1
    info = emocache_("cache", "info", tmp_path / "store", "--json")
    told = json.loads(info.out)["streams"][0]
    assert told["failures"] == len(BAD) == sum(told["failure_reasons"].values())


def test_the_thousand_channels_are_named(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    (corpus / "c.wav").write_bytes(wav_header(1000))
    assert "1000" in extract(emocache_, corpus, tmp_path / "store").err  # type: ignore[attr-defined]


def test_missing_folder(emocache_: Run, tmp_path: Path) -> None:
    status, _, err = extract(emocache_, tmp_path / "nowhere", tmp_path / "store")
    assert status == 1 and "nowhere" in one_line_error(err)


def test_two_rows_with_one_id(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    write_table(corpus, [["a.wav", "happy", "a"], ["b.wav", "sad", "b"], ["a.wav", "sad", "a"]])
    status, _, err = extract(emocache_, corpus, tmp_path / "store")
    assert status == 1 and "a.wav" in one_line_error(err)


@pytest.mark.parametrize("name", ["../a.wav", "x/../../a.wav"])
def test_ids_and_paths_stay_in_the_corpus(emocache_: Run, corpus: Path, tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    write_table(corpus, [["b.wav", "sad", "b"], [name, "happy", "a"]])
    status, _, err = extract(emocache_, corpus, tmp_path / "store")
    assert status == 1 and ".." in one_line_error(err)


def test_unknown_encoder_suggests(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    status, _, err = emocache_("extract", "table", "--data", corpus, "--cache", tmp_path / "s", "--encoder", "logmell")
    assert status == 1 and "'logmell'" in one_line_error(err) and "logmel" in err.replace("logmell", "")


def test_unknown_corpus_lists_those_there_are(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    status, _, err = emocache_("extract", "ravdes", "--data", corpus, "--cache", tmp_path / "s", "--encoder", "logmel")
    assert status == 1 and "ravdess" in one_line_error(err)


def test_wrong_usage_is_status_2(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    assert extract(emocache_, corpus, tmp_path / "store", "--backend", "lmdb")[0] == 2
    assert extract(emocache_, corpus, tmp_path / "store", "--shard", "3/2")[0] == 2
    assert emocache_("extract").status == 2
    assert emocache_("no-such-command").status == 2


def test_settings_that_belong_together_or_exclude_each_other(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert extract(emocache_, corpus, store, "--pca", 2)[0] == 2
    assert extract(emocache_, corpus, store, "--layers", "four")[0] == 2
    assert extract(emocache_, corpus, store, "--device", "gpu")[0] == 2
    twice = emocache_("extract", "table", "--data", corpus, "--cache", store, "--encoder", "logmel",
                      "--map", "label=emotion,label=spk")  # fmt: skip
    assert twice.status == 2 and "label.NAME=COLUMN" in twice.err
    for wrong, named in ((("--pca", 2, "--fit-on", "spk=a"), "spk"), (("--pca", 99, "--fit-on", "all"), "40")):
        status, _, err = extract(emocache_, corpus, store, *wrong)
        assert status == 1 and named in one_line_error(err)
    assert not Cache(store).corpora()  # found out before anything was written


def test_another_corpus_under_the_same_name(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    extract(emocache_, corpus, store)
    other.mkdir()
    soundfile.write(other / "z.wav", tone(), RATE)
    write_table(other, [["z.wav", "sad", "z"]])
    status, _, err = extract(emocache_, other, store)
    assert status == 1 and "--map corpus=NAME" in one_line_error(err)
    assert Cache(store).manifest("table").ids == ["a.wav", "b.wav", "c.wav"]
    write_table(corpus, [["a.wav", "happy", "a"], ["b.wav", "sad", "b"]])
    status, _, err = extract(emocache_, corpus, store)
    assert status == 0 and "c.wav" in err  # a clip that is gone is told


def test_a_pca_waits_for_what_it_is_fitted_on(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    fit = ("--pca", 2, "--fit-on", "all")
    status, _, err = extract(emocache_, corpus, tmp_path / "store", "--limit", 2, *fit)
    assert status == 0 and "logmel.pca2 waits for 1 utterances" in err
    status, out, _ = extract(emocache_, corpus, tmp_path / "store", *fit)
    assert status == 0 and "logmel.pca2" in out
    assert len(Cache(tmp_path / "store").stream("table", "logmel.pca2")) == 3


def test_a_folder_inside_a_cache_is_not_a_cache(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    extract(emocache_, corpus, store)
    for command in (("gc", "--grace-hours", 0), ("ls",), ("verify",), ("copy", tmp_path / "elsewhere")):
        status, _, err = emocache_("cache", command[0], store / "table", *command[1:])
        assert status == 1 and "the folder above" in one_line_error(err)
    assert emocache_("cache", "gc", store, "--grace-hours", 0).status == 0
    assert emocache_("cache", "verify", "--full", store).status == 0
    assert len(Cache(store).stream("table", "logmel")) == 3


def test_ambiguous_stream_name_lists_what_differs(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    extract(emocache_, corpus, tmp_path / "store")
    extract(emocache_, corpus, tmp_path / "store", "--dtype", "float32")
    status, _, err = emocache_("cache", "info", tmp_path / "store", "table/logmel")
    assert status == 1 and "dtype='float16'" in one_line_error(err) and "dtype='float32'" in err


def test_cache_that_is_not_there(emocache_: Run, tmp_path: Path) -> None:
    status, _, err = emocache_("cache", "ls", tmp_path / "no" / "store")
    assert status == 1 and "store" in one_line_error(err)


def test_table_without_the_column(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    status, _, err = emocache_("extract", "table", "--data", corpus, "--cache", tmp_path / "s", "--encoder", "logmel",
                               "--map", "id=file,label=feeling")  # fmt: skip
    assert status == 1 and "feeling" in one_line_error(err) and "emotion" in err


def test_a_library_that_is_not_installed(
    emocache_: Run, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def importing(_: object) -> None:
        importlib.import_module("emocache_needs_this")

    monkeypatch.setattr(stage, "extract", importing)
    status, _, err = extract(emocache_, corpus, tmp_path / "store")
    assert status == 1 and one_line_error(err).endswith(
        "emocache_needs_this; install it with: pip install 'emocache[extract]'"
    )


@pytest.mark.parametrize("option", [("--fps", "inf"), ("--fps", "0"), ("--limit", "0"), ("--shard", "3/2")])
def test_options_out_of_range(emocache_: Run, corpus: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    status, _, err = extract(emocache_, corpus, tmp_path / "store", *option)
    assert status == 2 and option[0] in err and "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>/dev/full", "2>&1 | true"])
def test_that_nobody_can_be_told_stops_no_extraction(corpus: Path, tmp_path: Path, streams: str) -> None:
    """Nor does what a library prints end in a file that was opened in place of standard error."""
    (corpus / "a.wav").write_bytes(b"no sound")
    command = [
        sys.executable, "-c", "from emocache.cli import main; main()", "extract", "table", "--data", str(corpus),
        "--cache", str(tmp_path / "store"), "--encoder", "logmel", "--map", "id=file,file=file,label=emotion",
    ]  # fmt: skip
    done = subprocess.run(f"{shlex.join(command)} {streams}", shell=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    stream = Cache(tmp_path / "store").stream("table", "logmel")
    assert (list(stream.ids), list(stream.failures)) == (["b.wav", "c.wav"], ["a.wav"])
    assert not list(verify(Cache(tmp_path / "store"), full=True))


@pytest.mark.parametrize("what", ["", "/", "table/", "/logmel"])
def test_the_name_of_nothing_removes_nothing(emocache_: Run, corpus: Path, tmp_path: Path, what: str) -> None:
    extract(emocache_, corpus, tmp_path / "store")
    done = emocache_("cache", "rm", "--yes", tmp_path / "store", what)
    assert done.status == 2 and "is not CORPUS or CORPUS/STREAM" in done.err
    assert len(Cache(tmp_path / "store").stream("table", "logmel")) == 3


@pytest.mark.parametrize("hours", ["nan", "inf", "1e300", "-1"])
def test_a_grace_period_is_a_number_of_hours(emocache_: Run, tmp_path: Path, hours: str) -> None:
    done = emocache_("cache", "gc", tmp_path, "--grace-hours", hours)
    assert done.status == 2 and "--grace-hours" in done.err


def test_a_cache_without_a_name_is_not_this_folder(
    emocache_: Run, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert "the cache has no name" in one_line_error(extract(emocache_, corpus, "")[2])
    assert sorted(tmp_path.iterdir()) == before


def test_one_slip_in_the_times_stops_no_other_utterance(emocache_: Run, corpus: Path, tmp_path: Path) -> None:
    rows = [["x", "a.wav", "happy", "a", "0", "1e12"], ["y", "b.wav", "happy", "b", "0", "0.3"]]
    write_table(corpus, rows, ("id", "file", "emotion", "spk", "start", "end"))
    done = emocache_("extract", "table", "--data", corpus, "--cache", tmp_path / "store", "--encoder", "logmel")
    assert done.status == 0, done.err
    stream = Cache(tmp_path / "store").stream("table", "logmel")
    assert (list(stream.ids), stream.failures["x"][0]) == (["y"], "undecodable")
