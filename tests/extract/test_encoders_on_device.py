"""Encoders on a GPU: nothing mixes devices, the numbers are the CPU's, and the host waits outside the launch lock."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emocache.extract.encoders import Clip, Encoder, inference, load
from emocache.extract.media.faces import FaceVideo
from emocache.extract.media.video import Frame

from ..pretend_cuda import PretendCuda, pretend_cuda

SPEECH = ("whisper-base", "whisper-base-padded", "whisper-base-clip", "wav2vec2-base", "hubert-large", "wavlm-base",
          "wavlm-large", "audeering-dimensional", "alexnet-random", "align-wav2vec2-base-960h")  # fmt: skip
TEXTS = ("roberta-base", "bert-base-cls", "distilbert-base")
FACES = ("vgg-face", "marlin-small")
gpu = pytest.mark.gpu
WHERE = ["pretend", pytest.param("cuda", marks=[gpu, pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device")])]  # fmt: skip


@pytest.fixture
def device() -> Iterator[PretendCuda]:
    """The pretend device, watching the launch lock."""
    with pretend_cuda() as there:
        there.lock = inference._LAUNCHING
        yield there


@pytest.fixture(scope="module")
def everything(voice: Callable[..., Any]) -> list[Clip]:
    """Three clips with sound, words and a face in 20 pictures of noise."""
    times = np.arange(21) / 25
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (60, 80, 3), np.uint8) for _ in range(20)]
    boxes = np.tile(np.array([[20, 10, 60, 50]], np.float32), (20, 1))
    video = FaceVideo(np.stack([times[:-1], times[1:]], axis=1), boxes, np.ones(20, np.bool_), lambda: iter(images))

    def pictures() -> Iterator[Frame]:
        return (Frame(image, k / 25, (k + 1) / 25) for k, image in enumerate(images))

    texts = ("they said that", "he was", "hers and his")
    return [Clip(text, voice(1.0 + k), text, (), video, pictures) for k, text in enumerate(texts)]


def arrays(encoder: Encoder, clips: Sequence[Clip]) -> list[Any]:
    """All numbers of the first and the last layer, where there are layers."""
    layers = [None, 1] if encoder.layers else [None]
    found = []
    for result in encoder.encode(clips, layers):
        for layer in layers:
            item = result[layer]  # type: ignore[index]
            found.append(getattr(item, "frames", item))
    return found


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", [*SPEECH, *TEXTS, *FACES, "transcript-whisper-base"])
def test_an_encoder_gives_on_a_device_what_it_gives_on_the_cpu(
    name: str, where: str, shelf: Path, everything: list[Clip], request: pytest.FixtureRequest
) -> None:
    here = arrays(load(name, checkpoints=shelf, device="cpu"), everything)
    if where == "pretend":
        request.getfixturevalue("device")
    there = arrays(load(name, checkpoints=shelf, device="cuda"), everything)
    atol = 1e-5 if where == "pretend" else 1e-3
    for a, b in zip(here, there, strict=True):
        if isinstance(a, dict):
            assert a == b
        else:
            assert np.allclose(a, b, atol=atol * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize("name", SPEECH)
def test_all_layers_leave_in_one_wait_outside_the_lock(
    name: str, shelf: Path, everything: list[Clip], device: PretendCuda
) -> None:
    encoder: Any = load(name, checkpoints=shelf, device="cuda")
    layers = [None, 0, 1] if encoder.layers else [None]
    passes = 1 if encoder.layers or encoder.name.startswith("align") else len(everything)
    device.counts.clear()
    encoder.encode(everything, layers)
    assert device.counts["pageable"] == 0
    assert device.counts["to host"] == passes * len(layers)
    assert device.counts["waits"] - device.counts["waits in the lock"] == passes
    assert device.counts["waits in the lock"] == 0
