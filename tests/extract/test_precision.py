"""Reduced precision touches the model alone, and on a GPU everything holds that holds on the CPU."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emocache.cache import Cache
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.encoders.inference import Runtime, device_memory
from emocache.extract.pipeline.batching import Budget

from .light import CORPUS, extract, manifest

KINDS = ("whisper", "wav2vec2-group", "wavlm-layer")
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU_BYTES = 1 << 30


@pytest.fixture
def checkpoint(tiny_whisper: Path, make_speech_model: Callable[..., Path]) -> Callable[[str], str]:
    """Folder of a small random checkpoint of a kind."""

    def find(kind: str) -> str:
        return str(tiny_whisper if kind == "whisper" else make_speech_model(*kind.split("-")))

    return find


def seen_by_the_model(encoder: Any, clips: Sequence[Clip]) -> list[torch.Tensor]:
    """The tensors that go into the model."""
    seen: list[torch.Tensor] = []

    def look(_module: Any, args: tuple[Any, ...], _kwargs: Any) -> None:
        seen.append(args[0].clone())

    handle = encoder._model.register_forward_pre_hook(look, with_kwargs=True)
    encoder.encode(clips, [None])
    handle.remove()
    return seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_front_end_is_outside_autocast(
    kind: str, precision: str, checkpoint: Callable[[str], str], clips: list[Clip]
) -> None:
    """Inside it, torch would round the log-mel spectrogram or the waveform to 8 or 11 bits."""
    folder = checkpoint(kind)
    exact, reduced = (load(folder, device="cpu", precision=p) for p in ("float32", precision))
    for a, b in zip(seen_by_the_model(exact, clips), seen_by_the_model(reduced, clips), strict=True):
        assert b.dtype == torch.float32 and torch.equal(a, b)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[gpu, needs_gpu])])
@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precision_is_near_and_not_equal(
    kind: str, device: str, checkpoint: Callable[[str], str], voice: Callable[..., Any]
) -> None:
    folder, clip = checkpoint(kind), Clip("a", voice(2.0))
    exact, reduced = (frames(load(folder, device=device, precision=p), clip) for p in ("float32", "bf16"))
    assert 0 < np.linalg.norm(exact - reduced) / np.linalg.norm(exact) < 0.05


def flags() -> tuple[bool, bool, str]:
    """Read the process's flags for exact float32 on a GPU: cuDNN's TF32 and determinism, and matrix products."""
    cudnn = torch.backends.cudnn
    return bool(cudnn.allow_tf32), bool(cudnn.deterministic), torch.get_float32_matmul_precision()


@pytest.fixture
def careless() -> Iterator[tuple[bool, bool, str]]:
    """Flags as in a container that sets TORCH_ALLOW_TF32_CUBLAS_OVERRIDE."""
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield flags()
    torch.set_float32_matmul_precision(usual)


def test_passes_are_launched_one_at_a_time_with_flags_of_their_own(careless: tuple[bool, bool, str]) -> None:
    """Else the front end of one encoder, when it is done, would undo the flags under the model of another."""
    front, model = Runtime.create("cpu", "float32"), Runtime.create("cpu", "bf16")
    both_inside = threading.Barrier(2)

    def enter(pass_: Callable[[], Any]) -> tuple[bool, bool, str]:
        with pass_():
            with pytest.raises(threading.BrokenBarrierError):
                both_inside.wait(0.1)
            return flags()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(enter, [front.exact, model.model])) == [(False, True, "highest")] * 2
    assert flags() == careless != (False, True, "highest")


def frames(encoder: Encoder, clip: Clip) -> Any:
    (result,) = encoder.encode([clip], [None])
    return result[None].frames  # type: ignore[index, union-attr]


@gpu
@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_batched_equals_single_and_the_cpu(
    kind: str, checkpoint: Callable[[str], str], clips: list[Clip], worst_distance: Callable[..., float]
) -> None:
    encoder = load(checkpoint(kind), device="cuda")
    assert worst_distance(encoder, clips) < 1e-5
    host = load(checkpoint(kind), device="cpu")
    for clip in clips:
        a, b = frames(encoder, clip), frames(host, clip)
        assert np.linalg.norm(a - b) / np.linalg.norm(b) < 1e-3


@pytest.fixture
def little_memory() -> Iterator[None]:
    """At most 1 GiB of the GPU."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(GPU_BYTES / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@gpu
@needs_gpu
def test_a_gpu_out_of_memory_loses_nothing(
    tmp_path: Path, little_memory: None, make_speech_model: Callable[..., Path]
) -> None:
    """A budget far too large, and two batches at once: they are halved until they fit, and later ones start small."""
    encoder: Any = load(str(make_speech_model("hubert", "layer", conv_dim=(512,) * 7)), device="cuda")
    ids = [f"clip{n:02d}" for n in range(48)]
    noise = (0.1 * np.random.default_rng(0).standard_normal(16_000 * 12)).astype(np.float32)
    budget = Budget(1e9)
    outcome = extract(
        tmp_path, manifest(ids), [encoder], decoder=lambda u: Clip(u.id, noise), budget=budget, units=2, passes=2
    )
    assert outcome.committed == 48 and not outcome.unresolved and budget.cost < 1e9
    stream = Cache(tmp_path).stream(CORPUS, encoder.name)
    first = stream.read("clip00")
    assert all(np.allclose(stream.read(i), first, rtol=2e-3, atol=2e-3) for i in stream.ids)


@gpu
@needs_gpu
def test_a_gpu_tells_what_was_taken_since_it_was_last_asked() -> None:
    memory = device_memory("cuda")
    block = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    del block
    taken, there = memory()
    assert there > taken >= 64 << 20 and memory()[0] <= 0


@gpu
@needs_gpu
def test_overlapping_passes_give_the_same_bytes(tmp_path: Path, checkpoint: Callable[[str], str]) -> None:
    for kind in KINDS:
        encoder: Any = load(checkpoint(kind), device="cuda")
        ids = [f"clip{n:02d}" for n in range(24)]

        def decoder(utterance: Any) -> Clip:
            rng = np.random.default_rng(int(utterance.id[4:]))
            return Clip(utterance.id, (0.1 * rng.standard_normal(8000 + 1000 * rng.integers(9))).astype(np.float32))

        for passes in (1, 2):
            extract(tmp_path / f"{kind}{passes}", manifest(ids), [encoder], decoder=decoder, budget=4.0, passes=passes)
        one, two = (Cache(tmp_path / f"{kind}{passes}").stream(CORPUS, encoder.name) for passes in (1, 2))
        assert all(one.crc32c(i) == two.crc32c(i) for i in one.ids) and len(one) == 24


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-5), ("bf16", 0.02), ("fp16", 0.003)])
def test_runs_that_cut_their_batches_otherwise_agree(
    tmp_path: Path, kind: str, precision: str, most: float, checkpoint: Callable[[str], str]
) -> None:
    """Within what docs/reliability.md says; and those that cut alike give the same bytes."""
    encoder: Any = load(checkpoint(kind), device="cpu", precision=precision)
    ids = [f"clip{n:02d}" for n in range(6)]

    def decoder(utterance: Any) -> Clip:
        rng = np.random.default_rng(int(utterance.id[4:]))
        return Clip(utterance.id, (0.1 * rng.standard_normal(8000 + 3000 * rng.integers(9))).astype(np.float32))

    streams = []
    for number, budget in enumerate((1.0, 3.0, 1e3, 1e3)):
        folder = tmp_path / str(number)
        extract(folder, manifest(ids), [encoder], decoder=decoder, budget=budget, units=1)
        streams.append(Cache(folder).stream(CORPUS, encoder.name))
    *others, whole, again = streams
    for i in ids:
        assert whole.crc32c(i) == again.crc32c(i)
        expected = whole.read(i).astype(np.float64)
        for other in others:
            distance = np.linalg.norm(other.read(i) - expected) / np.linalg.norm(expected)
            assert distance <= most + 2.0**-11  # stored in float16
