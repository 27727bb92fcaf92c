"""`emocache corpora CORPUS --fetch DIR` against a small Zenodo on the loopback address."""

import io
import os
import shutil
import signal as signals
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from emocache.cache import EmocacheError
from emocache.extract import corpus_fetch
from emocache.extract.corpora import MediaHasher, load
from emocache.extract.corpora.origins import ORIGINS
from emocache.extract.corpus_fetch import fetch_corpus
from emocache.extract.unpacking import DamagedError, list_files, unpack

from .small_hub import SmallHub, serving

RECORD, ARCHIVE = "1188976", "Audio_Speech_Actors_01-24.zip"
PATH = f"/records/{RECORD}/files/{ARCHIVE}"
ACTORS = ("01", "02")


def wav(seconds: float = 0.1, seed: int = 0) -> bytes:
    """A little noise, which no archive makes smaller."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(seed).integers(-999, 999, round(48_000 * seconds), "<i2").tobytes())
    return held.getvalue()


def zipped(target: Path, files: dict[str, bytes]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def of_ravdess(modality: str = "03", suffix: str = "wav", seconds: float = 0.1) -> dict[str, bytes]:
    names = [f"Actor_{actor}/{modality}-01-06-01-0{s}-01-{actor}.{suffix}" for actor in ACTORS for s in (1, 2)]
    return {name: wav(seconds, seed) for seed, name in enumerate(names)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A Zenodo with four recordings of RAVDESS."""
    zipped(tmp_path / "hub" / PATH[1:], of_ravdess())
    with serving(SmallHub(tmp_path / "hub")) as served:
        monkeypatch.setenv("EMOCACHE_ZENODO", served.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield served


def test_a_corpus_is_fetched_unpacked_and_counted(
    hub: SmallHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my data" / "ravdess"
    assert fetch_corpus("ravdess", folder, False)
    out, err = capsys.readouterr()
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*")} == of_ravdess()
    assert len(load("ravdess", folder, mapping={}, hasher=MediaHasher())) == 4
    assert out.index("CC BY-NC-SA 4.0") < out.index("4 utterances of 2 speakers; published are 1440 of 24 speakers")
    assert "neutral 0 of 96" in out and "fearful 4 of 192" in out
    assert out.splitlines()[-1] == f"now type: make extract DATASET=ravdess DATA='{folder}'"
    assert f"{ARCHIVE}: 4 files unpacked; its md5 is the published one" in err
    assert not list(folder.glob("*.zip")) and not list(folder.glob("*.part"))
    # Again: nothing is asked. A file that is gone is got again.
    asked = hub.asked.total()
    assert fetch_corpus("ravdess", folder, False) and hub.asked.total() == asked
    gone = next(iter(of_ravdess()))
    (folder / gone).unlink()
    assert fetch_corpus("ravdess", folder, False) and (folder / gone).is_file()


def test_the_licence_comes_before_the_first_byte(
    hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []

    def fetch(*_: object) -> str:
        told.append(capsys.readouterr().out)
        raise EmocacheError("enough")

    monkeypatch.setattr(corpus_fetch, "fetch_file", fetch)
    with pytest.raises(EmocacheError, match=f"enough; try again, or see {ORIGINS['ravdess'].page}"):
        fetch_corpus("ravdess", tmp_path / "x", False)
    assert ORIGINS["ravdess"].licence in told[0] and ORIGINS["ravdess"].citation in told[0]
    assert hub.asked[f"GET {PATH}"] == 0


def test_video_comes_on_demand(hub: SmallHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 25):
        zipped(
            hub.root / f"records/{RECORD}/files/Video_Speech_Actor_{number:02}.zip", {f"Actor_{number:02}/a.txt": b""}
        )
    fetch_corpus("ravdess", tmp_path / "sound", False)
    assert not [path for path in hub.asked if "Video" in path]
    fetch_corpus("ravdess", tmp_path / "sound", True)
    assert len([path for path in hub.asked if "Video" in path]) == 24
    assert hub.asked[f"GET {PATH}"] == 1  # the sound was there
    assert len(list((tmp_path / "sound").glob("Actor_*/a.txt"))) == 24
    with pytest.raises(EmocacheError, match="cafe has no archives of video to fetch; leave out --video"):
        fetch_corpus("cafe", tmp_path / "x", True)


def test_accents_in_names_do_not_matter(hub: SmallHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"CaFE_48k/Colère/Fort/01-C-2-1.wav": wav(), "__MACOSX/CaFE_48k/._01-C-2-1.wav": b"twin"}
    zipped(hub.root / "records/1478765/files/CaFE_48k.zip", files)
    fetch_corpus("cafe", tmp_path / "cafe", False)
    assert "1 utterances of 1 speakers; published are 936 of 12 speakers" in capsys.readouterr().out
    assert not (tmp_path / "cafe" / "__MACOSX").exists()


def test_an_address_without_a_record(
    hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zipped(hub.root / "files/download.zip", {"wav/03a01Fa.wav": wav(), "erkennung.txt": b"Satz\n"})
    led = replace(ORIGINS["emodb"], archives=(f"{hub.address}/files/download.zip",))
    monkeypatch.setitem(ORIGINS, "emodb", led)
    fetch_corpus("emodb", tmp_path / "emodb", False)
    out, err = capsys.readouterr()
    assert "1 utterances of 1 speakers; published are 535 of 10 speakers" in out
    assert "download.zip: 2 files unpacked; no md5 is published to compare" in err
    # Something else under the address is told apart, and not kept.
    (hub.root / "files/download.zip").write_bytes(b"<html>moved</html>")
    with pytest.raises(EmocacheError, match=r"gives something else \(it is no zip archive\)"):
        fetch_corpus("emodb", tmp_path / "other", False)
    assert not list((tmp_path / "other").glob("download*"))


def test_a_wrong_md5_is_told_and_nothing_is_kept(hub: SmallHub, tmp_path: Path) -> None:
    hub.wrong.add(RECORD)
    for _ in range(2):
        with pytest.raises(EmocacheError, match=r"gives something else \(md5 \w{32}, published is \w{32}\); try again"):
            fetch_corpus("ravdess", tmp_path / "x", False)
        assert not list((tmp_path / "x").glob("*zip*part")) and not list((tmp_path / "x").glob("*/*.wav"))
    assert hub.ranges == []  # each time from its beginning
    hub.wrong.clear()
    assert fetch_corpus("ravdess", tmp_path / "x", False)


def test_a_download_that_breaks_off_goes_on(hub: SmallHub, tmp_path: Path) -> None:
    size = (hub.root / PATH[1:]).stat().st_size
    hub.break_at[PATH] = 1000
    with pytest.raises(EmocacheError, match=f"broke off after 1000 of {size} bytes"):
        fetch_corpus("ravdess", tmp_path / "x", False)
    assert fetch_corpus("ravdess", tmp_path / "x", False)
    assert hub.ranges == [f"{PATH} 1000"] and hub.sent[PATH] == size


@pytest.mark.parametrize("extra", [0, 7], ids=["whole", "longer"])
def test_a_part_that_is_whole_or_too_long(hub: SmallHub, tmp_path: Path, extra: int) -> None:
    """The server answers 416; what is whole is taken, what is not is removed."""
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / f"{ARCHIVE}.0.part").write_bytes((hub.root / PATH[1:]).read_bytes() + b"!" * extra)
    if extra:
        with pytest.raises(EmocacheError, match="gives something else"):
            fetch_corpus("ravdess", folder, False)
    assert fetch_corpus("ravdess", folder, False)
    assert bool(hub.sent[PATH]) == bool(extra)


def test_an_archive_of_ones_own_is_taken_and_kept(hub: SmallHub, tmp_path: Path) -> None:
    own = tmp_path / "x" / ARCHIVE
    own.parent.mkdir()
    shutil.copy(hub.root / PATH[1:], own)
    assert fetch_corpus("ravdess", own.parent, False)
    assert own.is_file() and hub.asked[f"GET {PATH}"] == 0 and list(own.parent.glob("*/*.wav"))
    other = zipped(tmp_path / "y" / ARCHIVE, {"a": b"a"})
    with pytest.raises(EmocacheError, match=r"is not what is published: md5 .* move it away"):
        fetch_corpus("ravdess", other.parent, False)
    assert other.is_file()


def test_what_lies_there_is_not_written_over(hub: SmallHub, tmp_path: Path) -> None:
    name, data = next(iter(of_ravdess().items()))
    own = tmp_path / "x" / name
    own.parent.mkdir(parents=True)
    own.write_bytes(data[:-2] + b"!!")
    with pytest.raises(EmocacheError, match=f"{own} is not the file that {ARCHIVE} holds; move it away"):
        fetch_corpus("ravdess", tmp_path / "x", False)
    assert own.read_bytes() != data
    own.unlink()
    assert fetch_corpus("ravdess", tmp_path / "x", False)
    assert hub.asked[f"GET {PATH}"] == 1  # the archive was still there
    assert own.read_bytes() == data


def test_what_cannot_be_asked(hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(match: str, corpus: str = "ravdess", folder: Path = tmp_path / "x") -> None:
        with pytest.raises(EmocacheError, match=match):
            fetch_corpus(corpus, folder, False)

    (tmp_path / "file").touch()
    refused("file: cannot be written to .* name another with --fetch", folder=tmp_path / "file")
    refused("table is nothing to fetch", "table")
    refused("unknown corpus 'ravdes'; did you mean ravdess", "ravdes")
    (hub.root / PATH[1:]).rename(hub.root / f"records/{RECORD}/files/other.zip")
    refused(f"tells no size and md5 of {ARCHIVE}; get the corpus from {ORIGINS['ravdess'].page}")
    monkeypatch.setattr(corpus_fetch, "_read_record", lambda _: {ARCHIVE: (9, "0" * 32)})
    refused(r"cannot be fetched: .*status 404\); try again, or see")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    refused(f"{ARCHIVE} takes .* free some, or name a folder on another disk with --fetch")
    monkeypatch.undo()
    monkeypatch.setenv("EMOCACHE_ZENODO", "http://127.0.0.1:9")
    refused(r"api/records/1188976 cannot be asked \(Connection refused\); see that this machine reaches it")
    with monkeypatch.context() as patched:
        unknown = urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))
        patched.setattr(urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(unknown))
        refused(r"cannot be asked \(Name or service not known\)")
    monkeypatch.setenv("EMOCACHE_ZENODO", f"{hub.address}/files/page#")
    (hub.root / "files").mkdir()
    (hub.root / "files/page").write_text("<html>")
    refused("does not answer as Zenodo does")


def test_of_the_others_it_is_told_whom_to_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not fetch_corpus("iemocap", tmp_path / "x", False)
    out = capsys.readouterr().out
    assert "release form" in out and "Session1" in out and out.endswith("iemocap is got by hand, as above\n")
    assert not (tmp_path / "x").exists()


EVIL = {"../out.wav": "leads out", "/out.wav": "leads out", "a\\..\\out.wav": "leads out", "c:/out.wav": "leads out"}


@pytest.mark.parametrize("name", EVIL)
def test_no_archive_writes_outside_the_folder(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "a.zip", {"good.wav": wav(), name: b"evil"})
    with pytest.raises(DamagedError, match=EVIL[name]):
        unpack(archive, tmp_path / "x")
    assert not (tmp_path / "x").exists() and not (tmp_path / "out.wav").exists()


def test_archives_that_are_no_corpus(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    bomb = zipped(tmp_path / "bomb.zip", {"a.wav": b"\0" * (2 << 20)})
    whole = zipped(tmp_path / "cut.zip", {"a.wav": wav()}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    for name, told in (("link", "is a link"), ("bomb", "more than a corpus"), ("cut", "cannot be read as a zip")):
        with pytest.raises(DamagedError, match=told):
            list_files(tmp_path / f"{name}.zip")
    assert bomb.stat().st_size < 10_000


def test_damaged_content_is_no_file(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.wav": wav(), "b.wav": wav(seed=1)})
    data = bytearray(archive.read_bytes())
    data[-3000] ^= 255  # in b.wav
    archive.write_bytes(data)
    with pytest.raises(DamagedError, match=r"a.zip is damaged"):
        unpack(archive, tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.wav"]


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(hub: SmallHub, tmp_path: Path) -> Start:
    """Starts the command."""

    def command(*arguments: str) -> "subprocess.Popen[str]":
        # A machine that is busy may need longer to send the signal than an address is given.
        code = (
            "from emocache.cli import main; from emocache.extract.weights import download; download._SECONDS = 60;"
            " main()"
        )
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments], cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
            # Tests that run in the background ignore Ctrl-C, and so would the command.
            preexec_fn=lambda: signals.signal(signals.SIGINT, signals.default_int_handler),
        )  # fmt: skip

    return command


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGINT", "SIGKILL"])
def test_a_command_that_was_stopped_goes_on_from_there(
    hub: SmallHub, tmp_path: Path, start: Start, signal: str
) -> None:
    size = zipped(hub.root / PATH[1:], of_ravdess(seconds=8)).stat().st_size
    arrived = 2 << 20
    assert size > arrived
    hub.hang_at[PATH] = arrived
    with start("corpora", "ravdess", "--fetch", "data") as first:
        assert hub.hanging.wait(60)
        part = tmp_path / "data" / f"{ARCHIVE}.0.part"
        while first.poll() is None and (not part.exists() or part.stat().st_size < arrived):
            os.sched_yield()
        first.send_signal(getattr(signals, signal))
        _, err = first.communicate(timeout=60)
    assert first.returncode == (130 if signal == "SIGINT" else -9), err
    if signal == "SIGINT":
        assert f"{ARCHIVE}: {arrived} bytes are kept; the same command goes on from there" in err
    with start("corpora", "ravdess", "--fetch", "data") as second:
        out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert hub.ranges == [f"{PATH} {arrived}"] and hub.sent[PATH] == size
    assert out.splitlines()[-1] == "now type: make extract DATASET=ravdess DATA=data"
    with start("extract", "ravdess", "--data", "data", "--cache", "store", "--stream", "logmel", "--dry-run") as last:
        told, err = last.communicate(timeout=120)
    assert last.returncode == 0 and "4 utterances: 0 there" in told, err
