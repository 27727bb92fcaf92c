"""Weights that come by themselves, from a hub and a file server on the loopback address, by the real client."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from . import fixed_models
from .small_hub import SmallHub, serving

pytestmark = pytest.mark.slow  # every test starts commands of its own
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "subprocess.Popen[str]"]
HERE = Path(__file__).parent


class _Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SmallHub]:
    (tmp_path / "hub" / "files").mkdir(parents=True)
    with serving(SmallHub(tmp_path / "hub")) as served:
        yield served


@pytest.fixture
def start(hub: SmallHub, tmp_path: Path) -> Start:
    """Starts a command on a machine without any weights."""
    own = {
        "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "EMOCACHE_CHECKPOINTS": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1",
    }  # fmt: skip

    def command(*arguments: str, **changes: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(HERE / "hub_command.py"), hub.address, *arguments],
            env=os.environ | own | changes, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip

    return command


@pytest.fixture
def run(start: Start) -> Run:
    """Runs a command to its end."""

    def command(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        process = start(*arguments, **changes)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return command


def pickled(folder: Path, zipped: bool = True, shards: int = 1) -> Path:
    """Put a pickle, or several, in the place of a checkpoint's safetensors; older names for the positional weights."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in older.items():
        weights = {key.replace(new, old): value for key, value in weights.items()}
    keys = sorted(weights)
    parts = [keys[number::shards] for number in range(shards)]
    names = (
        ["pytorch_model.bin"] if shards == 1 else [f"pytorch_model-{n:05}-of-{shards:05}.bin" for n in range(shards)]
    )
    for name, part in zip(names, parts, strict=True):
        torch.save({key: weights[key] for key in part}, folder / name, _use_new_zipfile_serialization=zipped)
    if shards > 1:
        index = {"weight_map": {key: name for name, part in zip(names, parts, strict=True) for key in part}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def speech(hub: SmallHub, repository: str) -> Path:
    return fixed_models.speech(hub.root / repository, "wav2vec2", "group", False)


LOAD = """
import sys
from emocache.extract.encoders import load
for name in sys.argv[1:]:
    encoder = load(name, offline=True, device="cpu")
    print(encoder.name, encoder.recipe(None)["weights_sha256"])
"""


def loaded(tmp_path: Path, *names: str) -> list[list[str]]:
    """Name and hash of encoders loaded offline, in a process of their own."""
    own = {"HF_HOME": str(tmp_path / "hf"), "EMOCACHE_CHECKPOINTS": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *names], env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def with_sound(tmp_path: Path) -> tuple[str, ...]:
    """The arguments that extract from a table with one clip."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\1" * 16_000)
    (tmp_path / "list.csv").write_text("file,emotion\na.wav,sad\n")
    return "extract", "table", "--data", str(tmp_path), "--cache", "store", "--map", "table=list.csv"


@pytest.mark.parametrize(("zipped", "shards"), [(True, 1), (False, 1), (True, 3)])
def test_pickled_weights_are_one_stream_with_their_original(
    hub: SmallHub, run: Run, tmp_path: Path, zipped: bool, shards: int
) -> None:
    folder = pickled(speech(hub, "lab/speech"), zipped, shards)
    done = run("checkpoints", "lab/speech", "--fetch")
    assert done.returncode == 0 and "fetching lab/speech: lab/speech@" in done.stderr, done.stderr
    assert "apache-2.0" in done.stderr and "main is " in done.stderr
    files = sorted(folder.glob("*.bin"))
    original = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    # The folder itself, as somebody copied it, is the same stream; and the hub's own folder holds nothing of ours.
    assert loaded(tmp_path, "lab/speech", str(folder)) == [["speech", original]] * 2
    held = {file.name for file in (tmp_path / "hf").rglob("*") if file.is_file()}
    assert not any(name.endswith(".safetensors") for name in held)


def test_what_is_here_is_told_and_not_asked_for_again(hub: SmallHub, run: Run, tmp_path: Path) -> None:
    speech(hub, "lab/speech")
    before = run("checkpoints", "lab/speech")
    assert before.returncode == 1 and re.search(
        r"missing: weights; lab/speech@main \(0.00 GB, apache-2.0\)", before.stdout
    )
    assert "emocache checkpoints lab/speech --fetch" in before.stdout
    assert run("checkpoints", "lab/speech", "--fetch").returncode == 0
    asked = sum(hub.asked.values())
    after = run("checkpoints", "lab/speech", "--fetch")
    assert after.returncode == 0 and "here; lab/speech@" in after.stdout and sum(hub.asked.values()) == asked
    # A branch that moves: the commit of the first time counts.
    hub.pinned["lab/speech"] = {hashlib.sha1(b"lab/speech").hexdigest()}
    hub.commits["lab/speech"] = "f" * 40
    (hub.root / "lab/speech/config.json").write_text("{}")
    assert loaded(tmp_path, "lab/speech")[0][0] == "speech"


def test_a_download_that_breaks_off_goes_on(hub: SmallHub, run: Run, tmp_path: Path) -> None:
    folder = speech(hub, "lab/speech")
    filler = {"lm_head.filler": torch.zeros(25 << 18)}  # 25 MB
    save_file(load_file(folder / "model.safetensors") | filler, folder / "model.safetensors", {"format": "pt"})
    commit = hub.commit_of("lab/speech", "main")
    path = f"/lab/speech/resolve/{commit}/model.safetensors"
    hub.break_at[path] = 12 << 20
    done = run("checkpoints", "lab/speech", "--fetch")
    assert done.returncode == 0, done.stderr
    assert hub.ranges and int(hub.ranges[0].split()[1]) > 1 << 20


def test_a_download_that_is_killed_goes_on(hub: SmallHub, start: Start, run: Run, tmp_path: Path) -> None:
    shelf = hub.root / "files"
    torch.save({"filler": torch.zeros(4 << 18)}, shelf / "alexnet-owt-7be5be79.pth")  # 4 MB that are no AlexNet
    speech(hub, "lab/speech")
    weights = hub.root / "lab/speech/model.safetensors"
    filler = {"lm_head.filler": torch.zeros(25 << 18)}
    save_file(load_file(weights) | filler, weights, {"format": "pt"})
    for name, path in (
        ("lab/speech", f"/lab/speech/resolve/{hub.commit_of('lab/speech', 'main')}/model.safetensors"),
        ("alexnet", "/files/alexnet-owt-7be5be79.pth"),
    ):
        hub.hang_at[path] = (12 << 20) + 7 if name == "lab/speech" else (2 << 20) + 7  # of 10 MB blocks the client's
        process = start("checkpoints", name, "--fetch")
        assert hub.hanging.wait(60)
        # The client may be behind the server: what counts is that a part is on the disk.
        while process.poll() is None and not any(part.stat().st_size for part in tmp_path.rglob("*.part")):
            hub.never.wait(0.02)
        process.kill()
        process.communicate()
        hub.hanging.clear()
        done = run("checkpoints", name, "--fetch")
        assert [int(line.split()[1]) > 0 for line in hub.ranges if line.startswith(path)] == [True]
        assert (done.returncode == 0) == (name == "lab/speech"), done.stderr
        assert not list(tmp_path.rglob("*.part"))


def test_workers_that_start_together_fetch_once(hub: SmallHub, start: Start, tmp_path: Path) -> None:
    folder = pickled(speech(hub, "lab/speech"))
    weights = f"GET /lab/speech/resolve/{hub.commit_of('lab/speech', 'main')}/pytorch_model.bin"
    workers = [start("checkpoints", "lab/speech", "--fetch") for _ in range(3)]
    ends = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], ends
    assert hub.asked[weights] == 1
    original = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    assert loaded(tmp_path, "lab/speech") == [["speech", original]]


FAILURES: dict[str, tuple[Callable[[SmallHub, Path], None], dict[str, str], str]] = {
    "gated": (
        lambda hub, _: hub.gated.add("lab/speech"), {},
        r"lab/speech is gated: accept its terms at http://127.0.0.1:\d+/lab/speech, and set HF_TOKEN",
    ),
    "refused token": (
        lambda hub, _: hub.gated.add("lab/speech"), {"HF_TOKEN": "secret-token"}, r"lab/speech is gated",
    ),
    "wrong sha256": (
        lambda hub, _: hub.wrong.add("lab/speech"), {},
        r"lab/speech: model\.safetensors came with sha256 [0-9a-f]{12}, and the hub tells [0-9a-f]{12}; it was",
    ),
    "no repository": (
        lambda hub, _: shutil.rmtree(hub.root / "lab"), {}, r"lab/speech: the hub has no such repository",
    ),
    "no network": (
        lambda hub, _: None, {"HF_ENDPOINT": "http://127.0.0.1:9"},
        r"lab/speech cannot be fetched from http://127.0.0.1:9 \(ConnectError\); check the network",
    ),
    "forbidden by the environment": (
        lambda hub, _: None, {"HF_HUB_OFFLINE": "1"}, r"lab/speech is not on this machine, and HF_HUB_OFFLINE",
    ),
    "no weights": (
        lambda hub, _: (hub.root / "lab/speech/model.safetensors").unlink(), {},
        r"lab/speech@[0-9a-f]{12} has no weights that can be read; it has: config.json",
    ),
    "malicious": (
        lambda hub, tmp_path: _poison(hub.root / "lab/speech", tmp_path), {},
        r"pytorch_model.bin: this pickle asks for more than tensors \(posix.system\), which could run code",
    ),
    "unknown family": (
        lambda hub, _: _name_type(hub.root / "lab/speech", "my-own"), {}, "",
    ),
}  # fmt: skip


def _name_type(folder: Path, model_type: str) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def _poison(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": _Evil(tmp_path / "executed")}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("case", FAILURES)
def test_failures_are_one_line(hub: SmallHub, run: Run, tmp_path: Path, case: str) -> None:
    speech(hub, "lab/speech")
    prepare, environment, told = FAILURES[case]
    prepare(hub, tmp_path)
    started = time.monotonic()
    done = run("checkpoints", "lab/speech", "--fetch", **environment)
    if not told:  # the hub gives it; who wants to run it is told
        assert done.returncode == 0
        return
    assert done.returncode == 1 and time.monotonic() - started < 30
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("fetching", "lab/speech: main is"))]
    assert len(lines) == 1 and lines[0].startswith("lab/speech: ") and re.search(told, lines[0]), done.stderr
    assert "Traceback" not in done.stderr and "secret-token" not in done.stdout + done.stderr
    assert not (tmp_path / "executed").exists()


def test_a_token_opens_what_is_gated(hub: SmallHub, run: Run) -> None:
    speech(hub, "lab/speech")
    hub.gated.add("lab/speech")
    done = run("checkpoints", "lab/speech", "--fetch", HF_TOKEN="let-me-in")
    assert done.returncode == 0 and "let-me-in" not in done.stdout + done.stderr


def test_weights_not_for_commerce_come_on_demand_only(hub: SmallHub, run: Run, tmp_path: Path) -> None:
    speech(hub, "lab/speech")
    hub.licences["lab/speech"] = "cc-by-nc-sa-4.0"
    extract = (*with_sound(tmp_path), "--encoder", "lab/speech")
    done = run(*extract)
    assert done.returncode == 1 and "cc-by-nc-sa-4.0: weights under such a licence are fetched on demand" in done.stderr
    assert "emocache checkpoints lab/speech --fetch" in done.stderr
    assert run("checkpoints", "lab/speech", "--fetch").returncode == 0
    done = run(*extract)
    assert done.returncode == 0 and "table: speech: 1 items committed" in done.stdout, done.stderr


def test_names_of_two_organisations(hub: SmallHub, run: Run, tmp_path: Path) -> None:
    speech(hub, "lab/hubert-large")
    extract = with_sound(tmp_path)
    done = run(*extract, "--encoder", "lab/hubert-large")
    assert "its streams would be called 'hubert-large', as those of facebook/hubert-large-ll60k" in done.stderr
    assert "--as NAME" in done.stderr
    done = run(*extract, "--encoder", "lab/hubert-large", "--as", "cats")
    assert done.returncode == 0 and "table: cats: 1 items committed" in done.stdout, done.stderr
    assert "fetching lab/hubert-large: lab/hubert-large@" in done.stderr and "apache-2.0" in done.stderr
    speech(hub, "zoo/hubert-large")
    done = run(*extract, "--encoder", "lab/hubert-large", "--encoder", "zoo/hubert-large", "--as", "cats")
    assert done.returncode == 2 and "goes with one --encoder" in done.stderr


def test_single_files_are_tried_in_turn_and_known_ever_after(hub: SmallHub, run: Run, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    fixed_models.weight_files(shelf)
    torch.save(load_file(shelf / "alexnet.safetensors"), hub.root / "files/alexnet-owt-7be5be79.pth")
    done = run("checkpoints", "alexnet", "vgg-face", "marlin-base", "--fetch")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith(("vgg-face:", "marlin-base:"))]
    assert len(lines) == 2 and all("--fetch --from FILE" in line and line.count("status 404") == 2 for line in lines)
    original = hashlib.sha256((hub.root / "files/alexnet-owt-7be5be79.pth").read_bytes()).hexdigest()
    assert loaded(tmp_path, "alexnet") == [["alexnet", original]]
    # The second address, after one that gives something else; its beginning is here already.
    shutil.copy(shelf / "vgg-face.h5", hub.root / "files/rcmalli_vggface_tf_notop_vgg16.h5")
    (hub.root / "files/vgg_face_weights.h5").write_bytes(b"<html>moved</html>")
    done = run("checkpoints", "vgg-face", "--fetch")
    assert done.returncode == 0, done.stderr
    file = next((tmp_path / "home/vgg-face").glob("*.h5"))
    with file.open("ab") as opened:
        opened.write(b"!")
    done = run(*with_sound(tmp_path), "--encoder", "vgg-face")
    assert done.returncode == 1 and f"{file}: is not the file that came from {hub.address}" in done.stderr


def test_a_file_of_ones_own(hub: SmallHub, run: Run, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    fixed_models.weight_files(shelf)
    done = run("checkpoints", "glove-840b", "--fetch", "--from", str(shelf / "glove-840b.txt"))
    assert done.returncode == 0 and "here; " in done.stdout, done.stderr
    done = run("checkpoints", "vgg-face", "--fetch", "--from", str(shelf / "glove-840b.txt"))
    assert done.returncode == 1 and "cannot be read as HDF5" in done.stderr
    assert not list((tmp_path / "home/vgg-face").glob("[!.]*.h5"))
    done = run("checkpoints", "marlin-base", "--fetch", "--from", "absent.pt")
    assert done.returncode == 1 and "there is no such file" in done.stderr
