"""Many streams of one corpus by one command, and what makes any of them stale."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from typer.testing import CliRunner

from emocache.cache import Cache, Stream
from emocache.cli import app
from emocache.extract.media.audio import decode_audio
from emocache.extract.pipeline import clips

TEXTS = ("kids are talking", "by the door", "the door", "kids", "talking by the door")
STREAMS = ("logmel", "mfcc", "tiny-whisper", "tiny-speech", "tiny-bert")


@pytest.fixture
def corpus(tmp_path: Path, voice: Callable[..., npt.NDArray[np.float32]]) -> Path:
    """Five clips with their texts."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for n in range(len(TEXTS)):
        soundfile.write(folder / f"{n}.wav", voice(0.4 + 0.3 * n, n), 16_000)
    rows = [f"clip{n},{n}.wav,{text}" for n, text in enumerate(TEXTS)]
    (folder / "table.csv").write_text("\n".join(["id,file,text", *rows]))
    return folder


@pytest.fixture
def checkpoints(tmp_path: Path, tiny_whisper: Path, tiny_bert: Path, make_speech_model: Callable[..., Path]) -> Path:
    """A folder with one checkpoint folder for each model."""
    shelf = tmp_path / "checkpoints"
    for folder in (tiny_whisper, tiny_bert, make_speech_model("hubert", "group")):
        shutil.copytree(folder, shelf / folder.name)
    return shelf


def extract(corpus: Path, checkpoints: Path, *more: object) -> Any:
    encoders = [word for name in STREAMS for word in ("--encoder", name)]
    options = ["--cache", corpus.parent / "store", "--checkpoints", checkpoints, "--device", "cpu", *encoders, *more]
    return CliRunner().invoke(app, [str(word) for word in ("extract", "table", "--data", corpus, *options)])


def streams(corpus: Path) -> dict[str, Stream]:
    cache = Cache(corpus.parent / "store")
    return {name: cache.stream("table", name) for name in STREAMS}


def checksums(found: dict[str, Stream]) -> dict[str, dict[str, int]]:
    return {name: {i: stream.crc32c(i) for i in stream.ids} for name, stream in found.items()}


def test_five_streams_by_one_command_and_what_makes_them_stale(
    corpus: Path, checkpoints: Path, voice: Callable[..., npt.NDArray[np.float32]]
) -> None:
    first = extract(corpus, checkpoints)
    assert first.exit_code == 0 and "25 items committed" in first.stdout, first.output
    before = checksums(streams(corpus))
    assert all(len(found) == 5 for found in before.values())
    again = extract(corpus, checkpoints)
    assert "nothing to extract" in again.stdout and " 0 items committed" in again.stdout

    soundfile.write(corpus / "3.wav", voice(0.9, 77), 16_000)  # clip3 sounds otherwise; its text stays
    changed = extract(corpus, checkpoints)
    assert "4 items committed" in changed.stdout, changed.output
    after = checksums(streams(corpus))
    for name in STREAMS:
        differing = {i for i in before[name] if before[name][i] != after[name][i]}
        assert differing == (set() if name == "tiny-bert" else {"clip3"}), name

    table = corpus / "table.csv"
    table.write_text(table.read_text().replace("kids are talking", "kids"))
    reworded = extract(corpus, checkpoints)
    assert " 1 items committed" in reworded.stdout
    assert checksums(streams(corpus))["tiny-bert"]["clip0"] != before["tiny-bert"]["clip0"]


def test_without_its_checkpoint_a_stream_is_what_it_was(corpus: Path, checkpoints: Path) -> None:
    extract(corpus, checkpoints)
    before = checksums(streams(corpus))
    (checkpoints / "tiny-speech" / "model.safetensors").unlink()
    found = streams(corpus)
    assert checksums(found) == before and all(stream.check(i) for stream in found.values() for i in stream.ids)
    again = extract(corpus, checkpoints)
    assert again.exit_code == 0 and "nothing to extract" in again.stdout
    assert "expected model.safetensors" in again.stderr and "nothing is lost: tiny-speech@" in again.stderr
    soundfile.write(corpus / "3.wav", np.zeros(8000), 16_000)
    incomplete = extract(corpus, checkpoints)  # now the checkpoint is needed
    assert incomplete.exit_code == 1 and "expected model.safetensors" in incomplete.stderr
    assert "Traceback" not in incomplete.output


def test_what_is_not_there_is_not_told_to_be_there(corpus: Path, checkpoints: Path) -> None:
    """Only one layer of one encoder was stored before its weights went."""

    def run(*more: object) -> Any:
        words = ["extract", "table", "--data", corpus, "--cache", corpus.parent / "store", "--checkpoints", checkpoints]
        return CliRunner().invoke(app, [str(w) for w in (*words, "--device", "cpu", "--encoder", "tiny-speech", *more)])

    pca = ("--pca", 4, "--fit-on", "all")
    assert run("--layers", "1,last", *pca).exit_code == 0
    (checkpoints / "tiny-speech" / "model.safetensors").unlink()
    for there in (("--layers", "1"), ("--layers", "last,1"), pca, ("--layers", "last", *pca)):
        found = run(*there)
        assert found.exit_code == 0 and "nothing is lost: tiny-speech" in found.stderr, found.output
        assert found.stdout.startswith("table: tiny-speech") and "nothing to extract" in found.stdout
    for gone in (
        ("--layers", "2"), ("--layers", "1,2"), ("--layers", "all"), ("--dtype", "float32"), ("--precision", "bf16"),
        ("--pca", 5, "--fit-on", "all"),
    ):  # fmt: skip
        failed = run(*gone)
        assert failed.exit_code == 1 and "expected model.safetensors" in failed.stderr, (gone, failed.output)
        assert "Traceback" not in failed.output and "nothing is lost" not in failed.output


def test_signal_transforms_need_no_device(corpus: Path) -> None:
    options = ["--data", corpus, "--cache", corpus.parent / "store", "--encoder", "logmel", "--device", "cuda:7"]
    done = CliRunner().invoke(app, [str(word) for word in ("extract", "table", *options)])
    assert done.exit_code == 0 and "5 items committed" in done.stdout, done.output


def test_special_tokens_have_no_place_in_time(corpus: Path, checkpoints: Path) -> None:
    extract(corpus, checkpoints)
    text = streams(corpus)["tiny-bert"]
    assert np.isnan(text.times("clip0")).all() and text.aux("clip0")["word"].tolist()[0] == -1
    assert text.check("clip0")


def test_only_what_a_missing_stream_needs_is_decoded(
    corpus: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counting(path: Path, start: float | None, end: float | None) -> Any:
        decoded.append(path)
        return decode_audio(path, start, end)

    monkeypatch.setattr(clips, "decode_audio", counting)
    extract(corpus, checkpoints)
    assert len(decoded) == 5  # once for the four streams of sound
    table = corpus / "table.csv"
    table.write_text(table.read_text().replace("kids are talking", "kids"))
    assert " 1 items committed" in extract(corpus, checkpoints).stdout and len(decoded) == 5
