import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from emocache.cache import EmocacheError
from emocache.cache.recipe import canonical_json, check_stream_name
from emocache.extract.encoders import REGISTRY, load
from emocache.extract.encoders.checkpoints import read
from emocache.extract.encoders.families import FAMILY_OF_MODEL_TYPE, IMPLEMENTATIONS
from emocache.extract.encoders.lookup import find


def test_the_table_costs_no_heavy_import() -> None:
    code = (
        "import sys, emocache.extract.encoders as e; assert e.REGISTRY; e.load('logmel');"
        "print([m for m in ('torch', 'transformers', 'pandas', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", REGISTRY)
def test_entries_are_sound(name: str) -> None:
    entry = REGISTRY[name]
    assert check_stream_name(name) == name and entry.family in IMPLEMENTATIONS and entry.description
    assert entry.revision is None or re.fullmatch("[0-9a-f]{40}", entry.revision)
    assert (entry.dim == 0) == (entry.family in ("transcript", "align"))
    assert entry.hub is None or (entry.file is None and (entry.layers > 0) == (entry.dim > 0))
    if entry.family == "text":
        twin = REGISTRY[name + "-cls"]
        assert (twin.family, twin.hub, twin.revision, twin.dim) == ("text-cls", entry.hub, entry.revision, entry.dim)
    if entry.rate is not None:
        assert entry.gigabytes_per_hour() == entry.rate * 3600 * entry.dim * 2 / 1e9
    else:
        assert entry.gigabytes_per_hour() is None


def test_every_family_has_its_class() -> None:
    from importlib import import_module

    assert set(FAMILY_OF_MODEL_TYPE.values()) <= set(IMPLEMENTATIONS)
    for target in IMPLEMENTATIONS.values():
        module, _, name = target.partition(":")
        assert hasattr(import_module(f"emocache.extract.encoders.{module}"), name)


def test_unknown_names_get_help(tmp_path: Path) -> None:
    (tmp_path / "my-whisper").mkdir()
    with pytest.raises(
        EmocacheError, match=r"unknown encoder 'whisper_base': did you mean whisper-base.*--checkpoints DIR"
    ):
        load("whisper_base")
    with pytest.raises(EmocacheError, match=r"did you mean .*my-whisper"):
        load("my-wisper", checkpoints=tmp_path)
    with pytest.raises(EmocacheError, match="unknown encoder 'qqq': `emocache encoders` lists"):
        load("qqq")
    for name in ("", "mfcc-cls", "no/such/folder"):
        with pytest.raises(EmocacheError, match="unknown encoder"):
            load(name, checkpoints=tmp_path)


def test_bad_settings(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match="precision 'int8' is not one of float32, bf16, fp16"):
        load("logmel", precision="int8")
    with pytest.raises(EmocacheError, match="there is no such folder"):
        load("whisper-base", checkpoints=tmp_path / "none")
    with pytest.raises(EmocacheError, match="device 'cuda:99': "):
        load(str(tiny_bert), device="cuda:99")
    for device in ("gpu", "meta"):
        with pytest.raises(EmocacheError, match="is not one of auto, cpu, cuda"):
            load(str(tiny_bert), device=device)


def test_the_checkpoints_folder_comes_first_and_config_decides(
    tiny_bert: Path, make_speech_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(make_speech_model("hubert", "group"), tmp_path / "shelf" / "whisper-base")
    shutil.copytree(tiny_bert, tmp_path / "here" / "whisper-base")
    monkeypatch.chdir(tmp_path / "here")
    assert find("whisper-base", tmp_path / "shelf", True)[:2] == ("whisper-base", "wav2vec2")
    assert find("whisper-base", None, True)[:2] == ("whisper-base", "text")
    assert find("./whisper-base/", tmp_path / "shelf", True)[:2] == ("whisper-base", "text")
    assert find("./whisper-base-cls", None, True)[:2] == ("whisper-base-cls", "text-cls")
    with pytest.raises(EmocacheError, match=r"\.\.\.-cls takes a text checkpoint, not hubert"):
        find("whisper-base-cls", tmp_path / "shelf", True)


def test_what_is_not_here_is_not_asked_for_offline() -> None:
    for offline in (True, False):  # the tests' environment forbids to ask the hub
        with pytest.raises(
            EmocacheError, match=r"openai/whisper-base at e37978b90ca9 is not on this machine; run once"
        ):
            load("whisper-base", offline=offline)
    with pytest.raises(EmocacheError, match=r"facebook/wav2vec2-large is not on this machine"):
        load("wav2vec2-large", offline=True)
    with pytest.raises(EmocacheError, match=r"lab/thing at v1.0 is not on this machine; .* DIR/thing with"):
        load("lab/thing@v1.0", offline=True)


def test_unusable_checkpoints(tiny_bert: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(EmocacheError, match=r"holds no config\.json"):
        load("empty", checkpoints=tmp_path)

    folder = shutil.copytree(tiny_bert, tmp_path / "broken")
    weights = folder / "model.safetensors"
    intact = weights.read_bytes()
    weights.write_bytes(intact[: len(intact) // 2])
    with pytest.raises(EmocacheError, match="broken: the checkpoint cannot be loaded"):
        load(str(folder))
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(EmocacheError, match=r"pytorch_model\.bin: cannot be read as weights"):
        load(str(folder))
    weights.write_bytes(intact)
    with safe_open(weights, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys() if "layer.1.attention" not in key}  # noqa: SIM118
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(EmocacheError, match=r"weights of a bert model are missing, such as encoder\.layer\.1"):
        load(str(folder))
    (folder / "tokenizer.json").write_text("{")
    weights.write_bytes(intact)
    with pytest.raises(EmocacheError, match="the tokenizer cannot be loaded"):
        load(str(folder))

    (folder / "config.json").write_text('{"model_type": "my-own"}')
    with pytest.raises(EmocacheError, match="model_type 'my-own', which no encoder here can run; known are bert"):
        load(str(folder))
    (folder / "config.json").write_text("[1]")
    with pytest.raises(EmocacheError, match="expected a JSON object, found list"):
        load(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(EmocacheError, match=r"config.json cannot be read"):
        load(str(folder))


def test_weights_are_known_by_their_bytes(tiny_bert: Path, tmp_path: Path) -> None:
    one = shutil.copytree(tiny_bert, tmp_path / "a" / "model")
    weights = one / "model.safetensors"
    assert read(one).weights_sha256() == hashlib.sha256(weights.read_bytes()).hexdigest()
    two = shutil.copytree(tiny_bert, tmp_path / "b" / "model")
    assert load(str(one)).recipe(None) == load(str(two)).recipe(None)
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert read(one).weights_sha256() != read(two).weights_sha256()


def test_sharded_weights(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = shutil.copytree(tiny_bert, tmp_path / "shards")
    AutoModel.from_pretrained(tiny_bert).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 1 and read(folder).weight_files() == files
    assert read(folder).weights_sha256() == hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    assert load(str(folder)).dim == 32
    files[0].unlink()
    with pytest.raises(EmocacheError, match=r"is missing, though model.safetensors.index.json names it"):
        load(str(folder))


def test_the_config_counts_but_not_versions_and_paths(tiny_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    before = read(folder).identity()["config_sha256"]

    def rewrite(file: str, **changes: object) -> str:
        values = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps(values))
        return read(folder).identity()["config_sha256"]

    assert rewrite("config.json", transformers_version="9.9", _name_or_path="/elsewhere") == before
    assert rewrite("config.json", layer_norm_eps=1e-3) != before
    changed = read(folder).identity()["config_sha256"]
    assert rewrite("tokenizer_config.json", do_lower_case=False) != changed


def test_recipes_are_plain_json(tiny_bert: Path, tiny_whisper: Path, make_speech_model: Callable[..., Path]) -> None:
    for name in ("logmel", "mfcc", tiny_bert, f"{tiny_bert}-cls", tiny_whisper, make_speech_model("wavlm", "group")):
        recipe = load(str(name), device="cpu").recipe(None)
        assert json.loads(canonical_json(recipe)) == recipe
        required = {"kind", "encoder", "layer", "inputs", "dim", "times", "aux"}
        assert required <= set(recipe) and "dtype" not in recipe and recipe["kind"] == "frames"
