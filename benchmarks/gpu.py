"""Extraction on a GPU beside the loop that everybody writes: `make bench-gpu`.

Synthetic speech and faces go through models of the real shapes with random weights: HuBERT-large, the encoder of
Whisper-large-v3 and VGG16. Each row compares the whole of extraction (decoding, batching, encoding, committing) in
bfloat16 with a float32 loop over one file at a time, and with the same batches when they already lie on the device.
`--device cpu --small` runs the same code on tiny shapes, to see that it works; its figures mean nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from emocache.benchmarks.random_weights import write_hubert, write_vgg_face, write_whisper
from emocache.cache import Cache, Load, Manifest, Utterance, plan_tasks
from emocache.extract.corpora import MediaHasher
from emocache.extract.corpora import load as load_corpus
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.media.faces import FaceVideo
from emocache.extract.pipeline import encoding_loop, machine
from emocache.extract.pipeline.clips import Decoder

_REPLAYED = 6  # batches
_WRITERS = {"hubert-large": write_hubert, "whisper-large-v3": write_whisper, "vgg-face": write_vgg_face}


class Row(NamedTuple):
    """The speed of one encoder. Rates are hours of audio, or thousands of frames, a second."""

    name: str
    unit: str
    ours: float
    loop: float
    device: float
    peak_share: float
    error: float  # of bfloat16 against float32, ||a - b|| / ||b||

    def line(self) -> str:
        """A line of the table."""
        return (
            f"{self.name:<17} {self.ours:9.4f} {self.loop:9.4f} {self.device:9.4f} {self.unit:<7}"
            f" {self.ours / self.loop:7.1f} x {100 * self.ours / self.device:6.1f} % {100 * self.peak_share:6.1f} %"
            f" {self.error:9.1e}"
        )


class Work(NamedTuple):
    """Utterances and where their clips come from."""

    manifest: Manifest
    decode: Callable[[Utterance], Clip]
    amount: Callable[[Sequence[Utterance]], float]  # in the unit of the row
    unit: str


def speech(folder: Path, clips: int) -> Work:
    """Noise of 2 to 12 s a clip, as 16 kHz WAV files on disk."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["id,file"]
    for n in range(clips):
        noise = 0.1 * rng.standard_normal(round(16_000 * rng.uniform(2, 12)))
        soundfile.write(folder / f"{n}.wav", noise.astype(np.float32), 16_000)
        lines.append(f"clip{n:05d},{n}.wav")
    (folder / "table.csv").write_text("\n".join(lines))
    manifest = load_corpus("table", folder, mapping={}, hasher=MediaHasher())
    decoder = Decoder(folder, frozenset(("audio",)))
    return Work(manifest, decoder, lambda some: sum(u.duration or 0.0 for u in some) / 3600, "h/s")


def faces(clips: int, frames: int) -> Work:
    """Pictures of noise with the face's place known, since finding faces is work for the host."""
    picture = np.random.default_rng(0).integers(0, 255, (360, 480, 3), np.uint8)
    times = np.stack([np.arange(frames), np.arange(1, frames + 1)], axis=1) / 25
    boxes = np.tile(np.array([100, 60, 300, 260], np.float32), (frames, 1))
    video = FaceVideo(times, boxes, np.ones(frames, bool), lambda: iter([picture] * frames))
    manifest = Manifest.from_utterances("bench", [Utterance(f"clip{n}", duration=frames / 25) for n in range(clips)])
    return Work(manifest, lambda u: Clip(u.id, video=video), lambda some: len(some) * frames / 1000, "kfps")


def extract(root: Path, encoder: Encoder, work: Work, device: str) -> float:
    """Seconds of filling a stream with all utterances."""
    cache = Cache(root)
    cache.put_manifest(work.manifest)
    writer = cache.create_stream(work.manifest.corpus, encoder.name, {**encoder.recipe(None), "dtype": "float16"})
    utterances = {u.id: u for u in work.manifest}
    loads = {i: Load(0.0, 2 * encoder.dim * encoder.expected_frames(u)) for i, u in utterances.items()}
    target = encoding_loop.Target(encoder, None, writer)
    started = time.perf_counter()
    outcome = encoding_loop.run(
        plan_tasks([writer], loads), [target], utterances, work.decode,
        budget=machine.first_budget(device), workers=8, **machine.side_by_side(device),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if outcome.committed != len(utterances):
        raise SystemExit(f"{encoder.name}: {outcome.committed} of {len(utterances)} committed: {outcome.unresolved}")
    return seconds


def one_at_a_time(encoder: Encoder, work: Work, some: Sequence[Utterance], folder: Path) -> float:
    """Seconds of the usual loop: read a file, encode it, save an array."""
    started = time.perf_counter()
    for utterance in some:
        (result,) = encoder.encode([work.decode(utterance)], [None])
        np.save(folder / f"{utterance.id}.npy", result[None].frames)  # type: ignore[index, union-attr]
    return time.perf_counter() - started


def on_device(encoder: Any, work: Work, device: str) -> tuple[float, float]:
    """(amount a second, FLOP a second) of the model alone, over batches that lie on the device."""
    model, runtime, budget = encoder._model, encoder._runtime, machine.first_budget(device)
    masked = [m for m in (getattr(encoder, "_frame_mask", None), *model.modules()) if hasattr(m, "lengths")]
    calls: list[tuple[Any, Any, Any]] = []
    handle = model.register_forward_pre_hook(
        lambda _m, args, kwargs: calls.append((args, kwargs, [m.lengths for m in masked])), with_kwargs=True
    )
    ordered, amount = sorted(work.manifest, key=lambda u: -encoder.cost(u)), 0.0
    while ordered and len(calls) < _REPLAYED:
        size = budget.items(encoder.cost(ordered[0]))
        batch, ordered = ordered[:size], ordered[size:]
        encoder.encode([work.decode(u) for u in batch], [None])
        amount += work.amount(batch)
    handle.remove()

    def replay() -> None:
        for args, kwargs, lengths in calls:
            for mask, theirs in zip(masked, lengths, strict=True):
                mask.lengths = theirs
            with runtime.model():
                model(*args, **kwargs)
        if runtime.device.type == "cuda":
            torch.cuda.synchronize(runtime.device)

    with FlopCounterMode(display=False) as counter:
        replay()
    started = time.perf_counter()
    replay()
    seconds = time.perf_counter() - started
    return amount / seconds, counter.get_total_flops() / seconds


def matmul_peak(device: str, size: int) -> float:
    """FLOP a second of one large bfloat16 matrix product."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    fastest = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(4):
            a @ a
        if a.is_cuda:
            torch.cuda.synchronize(a.device)
        fastest = min(fastest, (time.perf_counter() - started) / 4)
    return 2 * size**3 / fastest


def measure(name: str, work: Work, folder: Path, device: str, loop: int, peak: float) -> Row:
    """One row: `loop` is how many utterances the loop and the comparison of precisions take."""
    exact, fast = (
        load(name, checkpoints=folder / "checkpoints", device=device, precision=p, offline=True)
        for p in ("float32", "bf16")
    )
    some = list(work.manifest)[:loop]
    error = bfloat16_error(exact, fast, [work.decode(u) for u in some[:8]])  # and both models are warm
    plain = work.amount(some) / one_at_a_time(exact, work, some, folder)
    del exact
    ours = work.amount(list(work.manifest)) / extract(folder / f"store-{name}", fast, work, device)
    alone, flops = on_device(fast, work, device)
    return Row(name, work.unit, ours, plain, alone, flops / peak, error)


def bfloat16_error(exact: Encoder, fast: Encoder, clips: Sequence[Clip]) -> float:
    """The largest ||a - b|| / ||b|| over the clips."""
    worst = 0.0
    for a, b in zip(fast.encode(clips, [None]), exact.encode(clips, [None]), strict=True):
        x, y = (np.asarray(r[None].frames, np.float64) for r in (a, b))  # type: ignore[index, union-attr]
        worst = max(worst, float(np.linalg.norm(x - y) / np.linalg.norm(y)))
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit with 2 where there is no GPU to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes and little data")
    parser.add_argument("--encoder", choices=_WRITERS, help="only this row")
    options = parser.parse_args(arguments)
    if machine.on_gpu(options.device) and not torch.cuda.is_available():
        print("bench-gpu: torch sees no CUDA device, so there is nothing to measure", file=sys.stderr)
        raise SystemExit(2)
    small = options.small
    name = torch.cuda.get_device_name(options.device) if machine.on_gpu(options.device) else "CPU"
    peak = matmul_peak(options.device, 512 if small else 8192)
    print(f"{name}; torch {torch.__version__}; bfloat16 matmul {peak / 1e12:.2f} TFLOP/s")
    print(f"{'encoder':<17} {'emocache':>9} {'loop':>9} {'on device':>9} {'':<7} {'ratio':>9} {'busy':>8} {'peak':>8} "
          f"{'bf16 err':>9}")  # fmt: skip
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        spoken, seen = speech(folder / "speech", 6 if small else 2000), faces(2 if small else 200, 4 if small else 250)
        for encoder, write in _WRITERS.items():
            if options.encoder in (None, encoder):
                write(folder / "checkpoints" / encoder, small)
                work, loop = (seen, 1 if small else 4) if encoder == "vgg-face" else (spoken, 4 if small else 100)
                print(measure(encoder, work, folder, options.device, loop, peak).line(), flush=True)
    print("ratio: to the loop; busy: device time of the batches alone over the whole; peak: share of the matmul's rate")


if __name__ == "__main__":
    main()
