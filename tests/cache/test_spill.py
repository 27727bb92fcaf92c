"""Arrays in temporary files: the same numbers as in memory, no memory, and nothing left behind."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.cache import Item, spill
from emocache.cache.crc import crc32c
from emocache.cache.frames.projection import fit_frames
from emocache.cache.stored_form import check_values, checksum, to_storage

RECIPE: dict[str, Any] = {"dim": 5, "dtype": "float16", "times": {"rate": 50.0}, "aux": {}}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What is over 400 bytes is large, and in blocks of 100; returns the folder of temporary files."""
    monkeypatch.setattr(spill, "LARGE", 400)
    monkeypatch.setattr(spill, "BLOCK", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def frames() -> np.ndarray[Any, np.dtype[np.float32]]:
    """403 frames, 8,060 bytes."""
    return np.random.default_rng(0).standard_normal((403, 5)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 4, 7, 403])
def test_a_tape_gives_back_what_it_was_given(small: Path, frames: Any, size: int) -> None:
    for whole in (frames, frames[:9], frames[:0]):
        tape = spill.Tape()
        for first in range(0, max(len(whole), 1), size):
            tape.append(whole[first : first + size])
        got = tape.whole()
        assert np.array_equal(got, whole) and got.dtype == whole.dtype and got.flags.c_contiguous
    assert not list(small.iterdir())


def test_blocks_are_the_array(small: Path, frames: Any) -> None:
    whole = spill.empty(frames.shape, np.float32)
    whole[:] = frames
    assert whole.flags.writeable and not list(small.iterdir())
    spill.release(whole)
    for array in (whole, frames, frames[:3], frames[:0]):
        blocks = list(spill.blocks(array))
        assert np.array_equal(np.concatenate(blocks), array)
        assert all(block.nbytes <= 100 for block in blocks) or array.nbytes <= 400
        assert b"".join(spill.buffers([array, array])) == 2 * array.tobytes()
        assert np.array_equal(spill.by_blocks(lambda block: block * 2, array), array * 2)


def test_numbers_do_not_depend_on_where_the_array_lies(
    frames: Any, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbers() -> list[Any]:
        stored = to_storage(Item(frames), RECIPE)
        fitted = fit_frames([stored.frames, frames[:7]], 3)
        return [stored.frames.tobytes(), checksum(stored), fitted.to_bytes()]

    spilled = numbers()
    assert np.array_equal(fit_frames([frames], 2).apply(frames), fit_frames([frames], 2).apply(frames.copy()))
    monkeypatch.setattr(spill, "LARGE", 1 << 20)
    assert numbers() == spilled and spilled[1] == crc32c([frames.astype(np.float16)])


def test_a_value_that_does_not_fit_is_told_wherever_it_lies(frames: Any, small: Path) -> None:
    for value, reason in ((1e6, "overflow"), (np.nan, "not_finite")):
        frames[300, 2] = value
        with pytest.raises(Exception, match=reason):
            check_values(to_storage(Item(frames), RECIPE), Item(frames))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a file system that sets room aside")
def test_a_full_disk_names_the_folder_and_the_remedy(small: Path, frames: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=rf"No space left .* 4 MB .* {small}; free some, or .* by TMPDIR") as caught:
        spill.empty((1000, 1000), np.float32)
    assert caught.value.errno == errno.ENOSPC


MEMORY = """
import numpy as np
from emocache.cache import spill
from emocache.cache.crc import crc32c

def held():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

tape, before = spill.Tape(), held()
for value in range(50):
    tape.append(np.full((1 << 20, 2), value, np.float32))
frames = tape.whole()
halves = spill.by_blocks(lambda block: block.astype(np.float16), frames)
total = sum(float(block[:, 0].sum(dtype=np.float64)) for block in spill.blocks(halves))
crc32c([halves])
print(total == (1 << 20) * sum(range(50)), held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell the memory")
def test_what_is_gone_over_takes_a_few_blocks_of_memory() -> None:
    """400 MB written, cast, summed and checksummed in less than half of it."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    right, taken = done.stdout.split()
    assert right == "True" and float(taken) < 160
