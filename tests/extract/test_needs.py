"""The needs of encoders and experiments, told without a network and without opening anything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from emocache.cache import EmocacheError
from emocache.cli import app
from emocache.extract import checkpoints_command
from emocache.extract.encoders import load
from emocache.extract.encoders.families import VARIANTS
from emocache.extract.encoders.needs import need_of
from emocache.extract.encoders.registry import REGISTRY
from emocache.extract.goals.stream_names import parse_stream
from emocache.extract.weights.home import check_room, home
from emocache.train.config.loading import load_settings
from emocache.train.config.stream_lists import wanted_streams

from . import fixed_models

ALL = [name for name, entry in REGISTRY.items() if entry.family not in {variant.family for variant in VARIANTS}]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOCACHE_CHECKPOINTS", str(tmp_path / "home"))


@pytest.mark.parametrize("name", ALL)
def test_every_name_has_a_source_and_what_is_missing_has_a_command(name: str) -> None:
    need = need_of(name)
    entry = REGISTRY[name]
    assert need.source and need.where is None
    assert need.lacks_weights == bool(entry.hub or entry.file)
    assert (f"emocache checkpoints {name} --fetch" in need.remedies) == need.lacks_weights
    if entry.file:  # not one that a person has to fetch
        assert entry.addresses and entry.licence and all(a.startswith(("https://", "{hub}/")) for a in entry.addresses)


def test_a_variant_needs_the_weights_of_its_checkpoint() -> None:
    for name in ("whisper-base-padded", "transcript-whisper-base-15s", "whisper-base"):
        assert need_of(name).weights == "whisper-base"
    assert need_of("lab/speech@v2-10s").source == "lab/speech@v2"
    assert need_of("my_encoder:Loudness").missing == ""
    with pytest.raises(EmocacheError, match="unknown encoder 'hubert-larg'"):
        need_of("hubert-larg")


def test_what_lies_here_is_told_with_its_size(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    fixed_models.speech(shelf / "hubert-large", "hubert", "layer", True)
    fixed_models.weight_files(shelf)
    need = need_of("hubert-large", shelf)
    assert need.where == shelf / "hubert-large" and need.size and not need.missing
    assert need_of("vgg-face", shelf).where == shelf / "vgg-face.h5" and not need_of("vgg-face", shelf).lacks_weights
    (shelf / "hubert-large/model.safetensors").unlink()
    assert need_of("hubert-large", shelf).missing == "weights"
    # The folder of this machine is looked into as well.
    shutil.copytree(shelf, home())
    assert need_of("vgg-face").where == home() / "vgg-face.h5"


def test_a_package_that_is_missing_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from emocache.extract.encoders import needs

    monkeypatch.setattr(needs, "find_spec", lambda name: None if name in ("dlib", "opensmile") else SimpleNamespace())
    assert need_of("marlin-base").missing == "dlib and weights"
    assert need_of("marlin-base").remedies[0] == "pip install 'emocache[extract,faces]'"
    assert need_of("egemaps").missing == "opensmile" and need_of("logmel").missing == ""


def test_the_command_lists_ends_with_remedies_and_has_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["checkpoints"])
    assert done.exit_code == 0 and [line.split()[0] for line in done.stdout.splitlines()[: len(ALL)]] == ALL
    done = CliRunner().invoke(app, ["checkpoints", "--for", "paper1/video-*", "--offline"])
    assert done.exit_code == 1 and done.stdout.splitlines()[-1].strip().endswith("--fetch")
    done = CliRunner().invoke(app, ["checkpoints", "logmel"])
    assert done.exit_code == 0 and done.stdout.strip() == "logmel  ready; no weights"
    for arguments, told in (
        (["--for", "papr1/*"], "--for papr1/*: no experiment is called so"),
        (["--from", "a", "--fetch"], "--from FILE goes with --fetch and one name"),
        (["nothing"], "unknown encoder 'nothing'"),
        (["whisper-base", "--fetch", "--offline"], "--fetch asks the hub, and --offline forbids it"),
    ):
        done = CliRunner().invoke(app, ["checkpoints", *arguments])
        assert done.exit_code == 1 and told in done.stderr, done.stderr


def test_an_experiment_says_where_its_encoders_are_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'streams = "cats.L2.pca8"\ntargets = "emotion"\n[head]\nkind = "probe"\n'
    (tmp_path / "plain.toml").write_text(text)
    (tmp_path / "named.toml").write_text(text + '[encoders]\ncats = "lab/hubert-for-cats@v1"\n')
    (stream,) = wanted_streams([str(tmp_path / "named.toml")])
    assert stream.name == "cats.L2.pca8" and stream.source == {"cats": "lab/hubert-for-cats@v1"}
    asked: list[Any] = []
    monkeypatch.setattr(checkpoints_command, "checkpoints", lambda names, *rest: asked.append((names, rest[4])))
    assert CliRunner().invoke(app, ["checkpoints", "--for", str(tmp_path / "named.toml")]).exit_code == 0
    assert asked == [(["cats"], {"cats": "lab/hubert-for-cats@v1"})]
    need = need_of("cats-10s", None, {"cats": "lab/hubert-for-cats@v1"})
    assert need.source == "lab/hubert-for-cats@v1" and need.weights == "lab/hubert-for-cats@v1"
    # It changes no number, and so no run's setting.
    plain, named = (load_settings(str(tmp_path / f"{name}.toml"))[1] for name in ("plain", "named"))
    assert plain == named.model_copy(update={"encoders": {}})


@pytest.mark.parametrize(
    ("name", "encoders", "layer", "pca"),
    [
        ("hubert-large.pca128", ["hubert-large"], None, 128),
        ("whisper-base.L4", ["whisper-base"], 4, None),
        ("Qwen3-0.6B.L12.pca64@0123456789ab", ["Qwen3-0.6B"], 12, 64),
        ("glove-840b", ["glove-840b"], None, None),
        (
            "distilbert-base-cls.from-whisper-large-v3-15s-translation",
            ["transcript-whisper-large-v3-15s", "distilbert-base-cls"],
            None,
            None,
        ),
        ("bert-base.from-whisper-base.L3", ["transcript-whisper-base", "bert-base"], 3, None),
    ],
)
def test_a_streams_name_says_what_it_is_made_of(name: str, encoders: list[str], layer: object, pca: object) -> None:
    parsed = parse_stream(name)
    assert (parsed.encoders, parsed.layer, parsed.pca) == (encoders, layer, pca)
    assert parsed.translation == name.endswith("-translation")


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    check_room(tmp_path / "not" / "yet", 10**9, "lab/model")
    with pytest.raises(EmocacheError, match=r"lab/model takes 3.00 GB, and .* has 1.00 GB free; free some, or set"):
        check_room(tmp_path / "not" / "yet", 3 * 10**9, "lab/model")


def test_an_encoder_of_ones_own_is_given_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_encoder.py").write_text(
        "class Own:\n"
        "    name, inputs, layers, dim, rate = 'own', ('audio',), 0, 1, 50.0\n"
        "    recipe = expected_frames = cost = encode = lambda self, *_: None\n"
        "    def __init__(self, checkpoints):\n        self.folder = checkpoints\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made: Any = load("own_encoder:Own", checkpoints=tmp_path)
    assert made.folder == tmp_path
    with pytest.raises(EmocacheError, match="keeps its name; --as is for checkpoints"):
        load("logmel", alias="other")


def test_another_name_for_a_checkpoint(tiny_bert: Path, make_speech_model: Callable[..., Path]) -> None:
    assert load(f"{tiny_bert}-cls", device="cpu", alias="mine").name == "mine-cls"
    folder = make_speech_model("hubert", "group")
    assert load(str(folder), device="cpu", alias="mine").name == "mine"
    assert json.loads((folder / "config.json").read_text())["model_type"] == "hubert"
