"""One command on several devices: who gets which share, what is told, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emocache.cache import EmocacheError
from emocache.extract.every_device import devices, extract_on_every_device, without_device

PROGRAM = """
import signal, sys
from pathlib import Path
Path({folder!r}, "-".join(sys.argv[1:]).replace("/", "of")).touch()
print("done", sys.argv[2]); print("careful", file=sys.stderr)
if {wait}:
    signal.signal(signal.SIGTERM, lambda *_: (Path({folder!r}, "stored-" + sys.argv[3]).touch(), sys.exit(143)))
    with Path({folder!r}, "ready").open("a") as ready:
        ready.write("ready\\n")
    signal.pause()
sys.exit({status})
"""


def program(folder: Path, status: str = "0", wait: bool = False) -> list[str]:
    """A command that notes its arguments."""
    return [sys.executable, "-c", PROGRAM.format(folder=str(folder), status=status, wait=wait)]


def test_every_device_has_its_share_and_one_makes_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract_on_every_device(["demo"], ["cuda:0", "cuda:1"], program(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "demo---device-cuda:0---shard-1of2", "demo---device-cuda:1---shard-2of2", "demo---device-cuda:0"
    }  # fmt: skip
    told = capsys.readouterr().err
    assert "on 2 GPUs, a process each: cuda:0, cuda:1" in told
    assert {f"{name}: {line}" for name in ("cuda:0", "cuda:1") for line in ("done --device", "careful")} <= set(
        told.splitlines()
    )


@pytest.mark.parametrize(
    ("status", "found"),
    [("1", 1), ("3 if '--shard' in sys.argv else 0", 3), ("1 if '--shard' in sys.argv else 0", 0)],
)
def test_the_status_is_that_of_the_whole(tmp_path: Path, status: str, found: int) -> None:
    """1 of a share is of clips that failed, which the last run tries again."""
    assert extract_on_every_device(["demo"], ["cuda:0", "cuda:1"], program(tmp_path, status)) == found


def test_what_stops_it_stops_all_and_each_stores_what_it_has(tmp_path: Path) -> None:
    code = (
        "import sys; from emocache.extract.every_device import extract_on_every_device as run; from emocache.stopping"
        " import stoppable\n"
        f"with stoppable(): run(['demo'], ['cuda:0', 'cuda:1'], {program(tmp_path, wait=True)!r})"
    )
    os.mkfifo(tmp_path / "ready")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with os.fdopen(os.open(tmp_path / "ready", os.O_RDWR)) as ready:  # also a writer: no end when the first one closes
        assert [ready.readline() for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) != 0
    assert (
        all((tmp_path / f"stored-cuda:{n}").exists() for n in (0, 1))
        and not (tmp_path / "demo---device-cuda:0").exists()
    )


def test_without_a_gpu_it_is_told() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(EmocacheError, match=r"device 'cuda': .*; use --device cpu"):
        devices()


def test_the_device_is_taken_out_of_the_command() -> None:
    assert without_device(["-v", "extract", "x", "--device=cuda:all", "--dtype", "float32"]) == [
        "-v", "extract", "x", "--dtype", "float32"
    ]  # fmt: skip
