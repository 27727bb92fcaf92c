"""The pages on adding an encoder and a corpus, followed to the letter: under 40 lines each, the package untouched."""

import json
import re
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import emocache
from emocache.cache import Cache, EmocacheError
from emocache.cli import app
from emocache.extract import corpora, encoders
from emocache.extract.corpora import MediaHasher

DOCS = Path(emocache.__file__).parent / "docs"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with the modules of both pages, which are forgotten afterwards."""
    for page, module in (("adding-an-encoder", "my_encoder"), ("adding-a-corpus", "my_corpus")):
        code = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)[0]
        assert code.startswith(f'"""{module}.py') and len(code.splitlines()) < 40
        (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in {"my_encoder", "my_corpus"} - before:
        sys.modules.pop(name, None)


def write_wav(path: Path, samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def test_an_encoder_and_a_corpus_of_the_users_own(elsewhere: Path) -> None:
    data, store = elsewhere / "data", elsewhere / "store"
    loud, quiet = (np.full(16_000, level, np.int16) for level in (16384, 164))
    write_wav(data / "anna_happy_01.wav", loud)
    write_wav(data / "deep" / "ben_sad_01.wav", quiet)
    write_wav(data / "notes.wav", quiet)
    census = CliRunner().invoke(app, ["corpora", "my_corpus:load", "--data", str(data)])
    assert census.exit_code == 0 and "anna" not in census.stderr and "happy" in census.stdout, census.output
    command = ["extract", "my_corpus:load", "--data", str(data), "--cache", str(store)]
    done = CliRunner().invoke(app, [*command, "--encoder", "my_encoder:Loudness"])
    assert done.exit_code == 0 and "2 items committed" in done.stdout, done.output
    stream = Cache(store).stream("mycorpus", "loudness")
    assert stream.ids == ["anna_happy_01", "ben_sad_01"] and stream.dim == 1
    assert (
        np.allclose(stream.read("anna_happy_01"), 10 * np.log10(0.25), atol=0.01)
        and len(stream.read("ben_sad_01")) == 50
    )
    assert stream.manifest["ben_sad_01"].labels == {"emotion": "sad"}
    again = CliRunner().invoke(app, [*command, "--encoder", "my_encoder:Loudness"])
    assert "nothing to extract" in again.stdout


def test_what_is_wrong_with_it_is_told_in_a_line(elsewhere: Path) -> None:
    (elsewhere / "broken_module.py").write_text("1 / 0")
    for name, complaint in (
        ("nowhere:Thing", r"--encoder nowhere:Thing: module 'nowhere' cannot be imported .*PYTHONPATH"),
        ("broken_module:Thing", r"cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("my_encoder:Thing", r"my_encoder.py has nothing called 'Thing' that can be called"),
        ("my_encoder:HOP", r"has nothing called 'HOP' that can be called"),
        ("sys:nothing", r"--encoder sys:nothing: module 'sys' has nothing called 'nothing' that can be called"),
        ("fractions:gcd", r"fractions.py has nothing called 'gcd' that can be called"),
        ("json:dumps", r"--encoder json:dumps: cannot be called without arguments, or .*missing .* argument: 'obj'"),
        ("fractions:Fraction", r"--encoder fractions:Fraction: Fraction is no encoder, it lacks name, inputs, layers,"),
    ):
        with pytest.raises(EmocacheError, match=complaint):
            encoders.load(name)
    with pytest.raises(EmocacheError, match="corpus nowhere:load: module 'nowhere' cannot be imported"):
        corpora.load("nowhere:load", elsewhere, mapping={}, hasher=MediaHasher())
    with pytest.raises(EmocacheError, match=r"mycorpus: no file named like anna_happy_01.wav below"):
        corpora.load("my_corpus:load", elsewhere, mapping={}, hasher=MediaHasher())


@pytest.mark.parametrize("names", [{"a": "../model.safetensors"}, {"a": 5}, ["model.safetensors"], {}, None])
def test_an_index_of_weights_names_nothing_outside_its_checkpoint(tmp_path: Path, names: object) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "hubert"}')
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(EmocacheError, match=r"index.json: weight_map does not name files beside it; copy"):
        encoders.load(str(folder), device="cpu")
