"""A device that runs out of memory, or fails for good: what is halved, what is tried once more, what ends the run."""

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from emocache.cache import Cache, EmocacheError, InputFailure
from emocache.cache.device import is_device_lost, is_out_of_memory
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers
from emocache.extract.pipeline.batching import Budget

from .light import CORPUS, LightEncoder, decode, extract, manifest

IDS = [f"clip{n}" for n in range(10)]


def accelerator_error(code: int, text: str) -> torch.AcceleratorError:
    """The error that torch raises of a CUDA call."""
    error = torch.AcceleratorError(text)
    error.error_code = code  # type: ignore[attr-defined]
    return error


ILLEGAL = accelerator_error(700, "CUDA error: an illegal memory access was encountered")
ECC = accelerator_error(214, "CUDA error: uncorrectable ECC error encountered in memory")


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (accelerator_error(2, "CUDA error: out of memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True, False),
        (MemoryError(), True, False),
        (ILLEGAL, False, True),
        (ECC, False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (ValueError("no memory of this"), False, False),
    ],
)
def test_errors_are_told_apart(error: Exception, memory: bool, lost: bool) -> None:
    assert (is_out_of_memory(error), is_device_lost(error)) == (memory, lost)


@pytest.mark.parametrize("error", [ILLEGAL, ECC])
@pytest.mark.parametrize("passes", [1, 2])
def test_a_lost_device_ends_the_run_once_the_finished_is_committed(
    tmp_path: Path, error: torch.AcceleratorError, passes: int
) -> None:
    class Lost(LightEncoder):
        done = 0

        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            if self.done >= 4:  # and every later call fails with the same error, as CUDA's do
                raise error
            self.done += len(clips)
            return super().encode(clips, layers)

    decoded: Counter[str] = Counter()

    def decoder(utterance):  # type: ignore[no-untyped-def]
        decoded[utterance.id] += 1
        return decode(utterance)

    ids = [f"clip{n:03d}" for n in range(200)]
    encoder = Lost()
    with pytest.raises(EmocacheError, match=r"the device failed.*run the same command again"):
        extract(tmp_path, manifest(ids), [encoder], decoder=decoder, units=20, budget=1.0, passes=passes)
    assert sum(decoded.values()) < 30 and len(encoder.passes) <= 5
    assert len(Cache(tmp_path).stream(CORPUS, "light").ids) >= 4
    extract(tmp_path, manifest(ids), [LightEncoder()], units=20)
    assert not Cache(tmp_path).stream(CORPUS, "light").missing


def test_a_single_clip_is_tried_once_more_alone(tmp_path: Path) -> None:
    """The other pass held the memory: when it is through, there is room."""

    class Crowded(LightEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.lock, self.both, self.refused = 0, threading.Lock(), threading.Barrier(2), 0

        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            with self.lock:
                self.inside += 1
                alone = self.inside == 1
            try:
                if not self.refused:
                    self.both.wait(10)  # two are in the encoder at once, and one of them finds no room
                    if not alone:
                        self.refused += 1
                        raise torch.OutOfMemoryError("CUDA out of memory")
                return super().encode(clips, layers)
            finally:
                with self.lock:
                    self.inside -= 1

    encoder = Crowded()
    outcome = extract(tmp_path, manifest(IDS[:2]), [encoder], units=1, budget=1.0, passes=2)
    assert encoder.refused == 1 and not outcome.unresolved and outcome.committed == 2


def test_a_batch_alone_waits_for_the_others_and_they_for_it() -> None:
    budget, order = Budget(10.0), []
    inside, go = threading.Event(), threading.Event()

    def spend() -> None:
        with budget.spend(1.0):
            inside.set()
            go.wait(10)
            order.append("other")

    thread = threading.Thread(target=spend)
    thread.start()
    inside.wait(10)

    def alone() -> None:
        with budget.alone():
            order.append("alone")

    second = threading.Thread(target=alone)
    second.start()
    go.set()
    thread.join(10)
    second.join(10)
    assert order == ["other", "alone"]


def test_what_does_not_fit_alone_either_is_left_and_tells_why(tmp_path: Path) -> None:
    class Never(LightEncoder):
        def one(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
            if clip.id == "clip6":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().one(clip, layers)

    outcome = extract(tmp_path, manifest(IDS), [Never()], units=1, budget=1e9, passes=2)
    assert outcome.unresolved == {"clip6": "encoder light: OutOfMemoryError: CUDA out of memory"}
    assert outcome.committed == 9


@pytest.mark.parametrize(("error", "tries"), [(ILLEGAL, 1), (torch.OutOfMemoryError("CUDA out of memory"), 3)])
def test_a_device_that_fails_a_detector_of_faces_in_a_decode_thread(
    tmp_path: Path, error: Exception, tries: int
) -> None:
    decoded: Counter[str] = Counter()

    def decoder(utterance):  # type: ignore[no-untyped-def]
        decoded[utterance.id] += 1
        if utterance.id == IDS[0]:
            raise error
        return decode(utterance)

    if tries == 1:
        with pytest.raises(EmocacheError, match="finding faces: the device failed, and nothing runs on it any more"):
            extract(tmp_path, manifest(IDS), [LightEncoder()], decoder=decoder)
    else:
        outcome = extract(tmp_path, manifest(IDS), [LightEncoder()], decoder=decoder)
        assert list(outcome.unresolved) == [IDS[0]]
    assert decoded[IDS[0]] == tries
