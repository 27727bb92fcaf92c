"""Extraction on a GPU beside the loops that everybody writes: `make bench-gpu`.

Synthetic speech (48 kHz, stereo) and faces go through models of the real shapes with random weights: HuBERT-large,
WavLM-large, the encoder of Whisper-large-v3 and VGG16. Each row compares the whole of extraction as a user gets it
(default workers; decoding, batching, encoding, committing) in bfloat16 with loops over one file at a time, in float32
and in bfloat16, and with the same batches when they already lie on the device. `--device cpu --small` runs the same
code on tiny shapes, to see that it works; its figures mean nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from emocache.benchmarks.random_weights import write_hubert, write_vgg_face, write_wavlm, write_whisper
from emocache.cache import Cache, Load, Manifest, Utterance, plan_tasks
from emocache.cache.device import tell_device, why_no_cuda
from emocache.extract.corpora import MediaHasher
from emocache.extract.corpora import load as load_corpus
from emocache.extract.encoders import Clip, Encoder, load
from emocache.extract.media.faces import FaceVideo
from emocache.extract.pipeline import encoding_loop, machine
from emocache.extract.pipeline.clips import Decoder

_REPLAYED = 6  # batches
_WRITERS = {
    "hubert-large": write_hubert,
    "wavlm-large": write_wavlm,
    "whisper-large-v3": write_whisper,
    "vgg-face": write_vgg_face,
}


class Row(NamedTuple):
    """The speed of one encoder. Rates are hours of audio, or thousands of pictures, a second."""

    name: str
    unit: str
    ours: float
    loop: float  # over one file at a time, in float32
    reduced: float  # the same in bfloat16
    device: float
    busy: float  # share of the time in which the model was at work on the device
    peak: float  # share of the rate of a large matrix product
    memory: float  # bytes, at most
    bf16: float  # distance from float32, ||a - b|| / ||b||
    fp16: float

    def line(self) -> str:
        """A line of the table."""
        return (
            f"{self.name:<17} {self.ours:9.4f} {self.loop:9.4f} {self.reduced:9.4f} {self.device:9.4f} {self.unit:<5}"
            f" {self.ours / self.loop:6.1f} x {self.ours / self.reduced:6.1f} x {self.ours / self.device:6.2f} x"
            f" {100 * self.busy:6.1f} % {100 * self.peak:6.1f} % {self.memory / 1e9:6.1f} GB {self.bf16:9.1e}"
            f" {self.fp16:9.1e}"
        )


HEADINGS = (
    f"{'encoder':<17} {'emocache':>9} {'loop fp32':>9} {'loop bf16':>9} {'on device':>9} {'':<5} {':loop32':>8}"
    f" {':loop16':>8} {':device':>8} {'busy':>8} {'peak':>8} {'memory':>9} {'bf16 err':>9} {'fp16 err':>9}"
)


class Work(NamedTuple):
    """Utterances and where their clips come from."""

    manifest: Manifest
    decode: Callable[[Utterance], Clip]
    amount: Callable[[Sequence[Utterance]], float]  # in the unit of the row
    unit: str


def speech(folder: Path, clips: int) -> Work:
    """Noise of 2 to 12 s a clip, as WAV files of 48 kHz and two channels on disk, as corpora are recorded."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["id,file"]
    for n in range(clips):
        noise = 0.1 * rng.standard_normal((round(48_000 * rng.uniform(2, 12)), 2))
        soundfile.write(folder / f"{n}.wav", noise.astype(np.float32), 48_000)
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
    return Work(manifest, lambda u: Clip(u.id, video=video), lambda some: len(some) * frames / 1000, "kf/s")


class Clock:
    """The time that a model is at work, by events on the device; on the CPU by the host's clock.

    Args:
        model: whose calls are timed.
        cuda: it is on a GPU.
    """

    def __init__(self, model: torch.nn.Module, cuda: bool) -> None:
        self._cuda = cuda
        self._spans: list[tuple[Any, Any]] = []
        self._begun: list[Any] = []  # launches come one at a time
        self._handles = [
            model.register_forward_pre_hook(lambda *_: self._begun.append(self._now())),
            model.register_forward_hook(lambda *_: self._spans.append((self._begun.pop(), self._now()))),
        ]

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def stop(self) -> float:
        """Return the seconds."""
        for handle in self._handles:
            handle.remove()
        if not self._cuda:
            return float(sum(end - begin for begin, end in self._spans))
        torch.cuda.synchronize()
        return sum(float(begin.elapsed_time(end)) for begin, end in self._spans) / 1000


def extract(root: Path, encoder: Any, work: Work, device: str) -> tuple[float, float]:
    """Seconds of filling a stream with all utterances, and those in which the model was at work."""
    cache = Cache(root)
    cache.put_manifest(work.manifest)
    writer = cache.create_stream(work.manifest.corpus, encoder.name, {**encoder.recipe(None), "dtype": "float16"})
    utterances = {u.id: u for u in work.manifest}
    loads = {i: Load(0.0, 2 * encoder.dim * encoder.expected_frames(u)) for i, u in utterances.items()}
    target = encoding_loop.Target(encoder, None, writer)
    on_gpu = machine.on_gpu(device)
    clock, started = Clock(encoder._model, on_gpu), time.perf_counter()
    outcome = encoding_loop.run(
        plan_tasks([writer], loads), [target], utterances, work.decode,
        budget=machine.first_budget(device), workers=machine.decode_workers(), **machine.side_by_side(device),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if outcome.committed != len(utterances):
        raise SystemExit(f"{encoder.name}: {outcome.committed} of {len(utterances)} committed: {outcome.unresolved}")
    return seconds, clock.stop()


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
    """One row: `loop` is how many utterances the loops and the comparison of precisions take."""
    some = list(work.manifest)[:loop]
    clips = [work.decode(u) for u in some[:8]]
    exact = _loaded(name, folder, device, "float32")
    frames = _frames(exact, clips)  # and the model is warm
    plain = work.amount(some) / one_at_a_time(exact, work, some, folder)
    del exact
    fp16 = _distance(_frames(_loaded(name, folder, device, "fp16"), clips), frames)
    fast = _loaded(name, folder, device, "bf16")
    bf16 = _distance(_frames(fast, clips), frames)
    reduced = work.amount(some) / one_at_a_time(fast, work, some, folder)
    if machine.on_gpu(device):
        torch.cuda.reset_peak_memory_stats()
    seconds, busy = extract(folder / f"store-{name}", fast, work, device)
    memory = torch.cuda.max_memory_allocated() if machine.on_gpu(device) else 0.0
    ours = work.amount(list(work.manifest)) / seconds
    alone, flops = on_device(fast, work, device)
    return Row(name, work.unit, ours, plain, reduced, alone, busy / seconds, flops / peak, memory, bf16, fp16)


def _loaded(name: str, folder: Path, device: str, precision: str) -> Encoder:
    return load(name, checkpoints=folder / "checkpoints", device=device, precision=precision, offline=True)


def _frames(encoder: Encoder, clips: Sequence[Clip]) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(r[None].frames, np.float64) for r in encoder.encode(clips, [None])]  # type: ignore[index, union-attr]


def _distance(found: Sequence[npt.NDArray[np.float64]], exact: Sequence[npt.NDArray[np.float64]]) -> float:
    """The largest ||a - b|| / ||b|| over the clips."""
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(found, exact, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit with 2 where there is no GPU to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes and little data")
    parser.add_argument("--encoder", choices=_WRITERS, help="only this row")
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        print(
            f"bench-gpu: torch sees no CUDA device, so there is nothing to measure ({why_no_cuda()})", file=sys.stderr
        )
        raise SystemExit(2)
    small = options.small
    peak = matmul_peak(options.device, 512 if small else 8192)
    where, workers = tell_device(options.device, "bf16"), machine.decode_workers()
    print(f"{where}; torch {torch.__version__}; {workers} decode threads; bfloat16 matmul {peak / 1e12:.2f} TFLOP/s")
    print(HEADINGS)
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        spoken, seen = speech(folder / "speech", 6 if small else 2000), faces(2 if small else 200, 4 if small else 250)
        for encoder, write in _WRITERS.items():
            if options.encoder in (None, encoder):
                write(folder / "checkpoints" / encoder, small)
                work, loop = (seen, 1 if small else 4) if encoder == "vgg-face" else (spoken, 4 if small else 100)
                print(measure(encoder, work, folder, options.device, loop, peak).line(), flush=True)
    print("h/s: hours of audio a second, kf/s: thousands of pictures; busy: share of the time with the model at work;"
          " peak: the batches alone, as a share of the matmul's rate")  # fmt: skip


if __name__ == "__main__":
    main()
