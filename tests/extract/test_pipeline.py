"""The pipeline: every clip ends as an item, a committed failure or an unresolved cause, and disturbs no other."""

import errno
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import Cache, EmocacheError, InputFailure, Utterance
from emocache.cache.recipe import Recipe
from emocache.extract.encoders.encoder import Clip, LayerItems, Layers
from emocache.extract.pipeline.batching import Budget

from .light import CORPUS, LightEncoder, decode, extract, manifest, snapshot

IDS = [f"clip{n}" for n in range(10)]


def stream_of(root: Path, name: str = "light") -> dict[str, Any]:
    return snapshot(Cache(root).stream(CORPUS, name))


def reference(tmp_path: Path, ids: Sequence[str] = IDS) -> dict[str, Any]:
    extract(tmp_path / "reference", manifest(ids), [LightEncoder()])
    return stream_of(tmp_path / "reference")


@pytest.mark.parametrize("budget", [1.0, 9.0, 1e9])
@pytest.mark.parametrize("units", [1, 4])
def test_batches_and_units_change_nothing(tmp_path: Path, budget: float, units: int) -> None:
    encoder = LightEncoder()
    outcome = extract(tmp_path / "a", manifest(IDS), [encoder], budget=budget, units=units)
    assert (outcome.encoded, outcome.committed, outcome.failed, outcome.unresolved) == (10, 10, 0, {})
    assert outcome.bytes > 0
    assert stream_of(tmp_path / "a") == reference(tmp_path)
    assert budget > 1 or all(len(ids) == 1 for ids, _ in encoder.passes)


@pytest.mark.parametrize("budget", [1.0, 9.0, 1e9])
def test_batches_are_affordable_and_of_similar_cost(tmp_path: Path, budget: float) -> None:
    encoder, of = LightEncoder(), manifest(IDS)
    extract(tmp_path, of, [encoder], budget=budget, units=1)
    costs = [[encoder.cost(of[i]) for i in ids] for ids, _ in encoder.passes]
    assert all(len(batch) == 1 or len(batch) * max(batch) <= budget for batch in costs)
    flat = [cost for batch in costs for cost in batch]
    assert len(flat) == 10 and flat == sorted(flat, reverse=True)
    for batch, after in pairwise(costs):
        assert (len(batch) + 1) * max(batch) > budget, after


def test_two_passes_overlap_and_change_nothing(tmp_path: Path) -> None:
    """The second batch is in the encoder while the first still is; what is committed is the same."""
    both = threading.Barrier(2, timeout=60)

    class Waiting(LightEncoder):
        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            both.wait()
            return super().encode(clips, layers)

    ids = [*IDS, "empty", "loud"]  # an even number of batches, so that none waits alone
    outcome = extract(tmp_path / "a", manifest(ids), [Waiting()], budget=1.0, units=3, passes=2)
    assert (outcome.encoded, outcome.committed, outcome.failed) == (12, 10, 2) and not outcome.unresolved
    assert stream_of(tmp_path / "a") == reference(tmp_path, ids)


def test_a_fault_in_one_input_fails_the_streams_of_that_input_only(tmp_path: Path) -> None:
    def decoder(utterance: Utterance) -> Clip:
        clip = decode(utterance)
        faults = {"video": InputFailure("no_face", "25 pictures")} if utterance.id == "clip4" else {}
        return Clip(clip.id, clip.audio, clip.text, clip.words, faults=faults)

    seeing = LightEncoder("seeing", ("video",))
    extract(tmp_path / "a", manifest(IDS), [LightEncoder(), seeing], decoder=decoder)
    assert stream_of(tmp_path / "a") == reference(tmp_path)
    found = Cache(tmp_path / "a").stream(CORPUS, "seeing")
    assert found.failures == {"clip4": ("no_face", "25 pictures")} and not found.missing
    assert "clip4" not in seeing.calls


def test_causes_in_the_input_are_committed(tmp_path: Path) -> None:
    def decoder(utterance: Utterance) -> Clip:
        if utterance.id == "clip3":
            raise InputFailure("undecodable", "clip3.wav is a text file")
        return decode(utterance)

    ids = [*IDS, "empty", "loud"]
    outcome = extract(tmp_path / "a", manifest(ids), [LightEncoder()], decoder=decoder)
    assert (outcome.encoded, outcome.committed, outcome.failed) == (11, 9, 3) and not outcome.unresolved
    found, whole = stream_of(tmp_path / "a"), reference(tmp_path, ids)
    assert found["failures"] == {**whole["failures"], "clip3": ["undecodable", "clip3.wav is a text file"]}
    del whole["items"]["clip3"]
    assert found["items"] == whole["items"]


def test_a_row_that_is_not_finite_fails_alone(tmp_path: Path) -> None:
    """Half precision may overflow in a transcript's probabilities as it may in frames."""

    class Table(LightEncoder):
        def recipe(self, layer: int | None) -> Recipe:
            return {"kind": "table", "encoder": self.name, "layer": None, "inputs": ["audio"]}

        def one(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
            word = {"word": clip.text, "start": float("inf") if clip.id == "clip2" else 0.0}
            return {None: {"logprob": float("nan") if clip.id == "clip1" else -0.5, "words": [word]}}

    outcome = extract(tmp_path, manifest(IDS), [Table()], units=1)
    assert (outcome.committed, outcome.failed) == (8, 2)
    stream = Cache(tmp_path).stream(CORPUS, "light")
    why = ("not_finite", "the encoder's output holds NaN or infinity; try --precision float32")
    assert stream.failures == {"clip1": why, "clip2": why}
    assert stream.row("clip3") == {"logprob": -0.5, "words": [{"word": "clip3", "start": 0.0}]}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad disk"), MemoryError("no room"), RuntimeError("bug")])
def test_causes_outside_the_input_are_never_committed(tmp_path: Path, error: Exception) -> None:
    calls: Counter[str] = Counter()

    def decoder(utterance: Utterance) -> Clip:
        calls[utterance.id] += 1
        if utterance.id == "clip3":
            raise error
        return decode(utterance)

    outcome = extract(tmp_path, manifest(IDS), [LightEncoder()], decoder=decoder)
    assert outcome.unresolved == {"clip3": f"cannot be read: {error}"} and outcome.failed == 0
    assert calls["clip3"] == (1 if isinstance(error, RuntimeError) else 3) and calls["clip4"] == 1
    stream = Cache(tmp_path).stream(CORPUS, "light")
    assert stream.missing == ["clip3"] and not stream.failures
    again = LightEncoder()
    assert extract(tmp_path, manifest(IDS), [again]).committed == 1 and list(again.calls) == ["clip3"]


def test_a_cause_that_passes_leaves_no_trace(tmp_path: Path) -> None:
    calls: Counter[str] = Counter()

    def decoder(utterance: Utterance) -> Clip:
        calls[utterance.id] += 1
        if calls[utterance.id] < 3:
            raise OSError("stale file handle")
        return decode(utterance)

    assert not extract(tmp_path / "a", manifest(IDS), [LightEncoder()], decoder=decoder).unresolved
    assert stream_of(tmp_path / "a") == reference(tmp_path)


class Fragile(LightEncoder):
    """Breaks on large batches and on certain clips."""

    most = 99
    breaks_on = ""

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """See `Encoder.encode`."""
        if len(clips) > self.most or any(clip.id == self.breaks_on for clip in clips):
            raise RuntimeError("CUDA out of memory")
        return super().encode(clips, layers)


def test_after_a_lack_of_memory_batches_stay_small(tmp_path: Path) -> None:
    """In the same unit too, but for the batches that were being decoded already."""

    class Counting(Fragile):
        misfits = 0

        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            self.misfits += len(clips) > self.most
            return super().encode(clips, layers)

    encoder, budget = Counting(), Budget(100.0)
    encoder.most = 4
    ids = [f"clip{n:03d}" for n in range(300)]
    outcome = extract(tmp_path, manifest(ids), [encoder], budget=budget, units=1)
    assert outcome.encoded == 300 and not outcome.unresolved and budget.cost < 100
    tries = [len(ids) for ids, _ in encoder.passes]
    assert max(tries) == 4 and encoder.misfits < len(tries) / 2


@pytest.mark.parametrize("most", [1, 2, 5])
def test_batches_that_do_not_fit_are_halved(tmp_path: Path, most: int) -> None:
    encoder = Fragile()
    encoder.most = most
    outcome = extract(tmp_path / "a", manifest(IDS), [encoder], budget=1e9, units=1)
    assert outcome.encoded == 10 and not outcome.unresolved
    assert max(len(ids) for ids, _ in encoder.passes) <= most
    assert stream_of(tmp_path / "a") == reference(tmp_path)


def test_a_clip_that_breaks_the_encoder_is_alone_in_that(tmp_path: Path) -> None:
    encoder = Fragile()
    encoder.breaks_on = "clip6"
    outcome = extract(tmp_path, manifest(IDS), [encoder], budget=1e9, units=1)
    assert outcome.unresolved == {"clip6": "encoder light: RuntimeError: CUDA out of memory"}
    stream = Cache(tmp_path).stream(CORPUS, "light")
    assert stream.ids == [i for i in IDS if i != "clip6"] and stream.missing == ["clip6"]


def test_a_cause_of_several_lines_is_told_in_one(tmp_path: Path) -> None:
    class Broken(LightEncoder):
        def one(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
            raise RuntimeError("CUDA error: launch failure\nKernel errors might be\n  asynchronous.\n")

    outcome = extract(tmp_path, manifest(IDS[:1]), [Broken()])
    told = "encoder light: RuntimeError: CUDA error: launch failure Kernel errors might be asynchronous."
    assert outcome.unresolved == {"clip0": told}


@pytest.mark.parametrize("passes", [1, 2])
def test_what_the_user_can_mend_stops_the_run_once_the_finished_is_committed(tmp_path: Path, passes: int) -> None:
    class Refusing(LightEncoder):
        def one(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
            if clip.id == last:
                raise EmocacheError("install the codec")
            return super().one(clip, layers)

    of = manifest(IDS)
    last = max(IDS, key=lambda i: (-LightEncoder().cost(of[i]), i))
    with pytest.raises(EmocacheError, match="install the codec"):
        extract(tmp_path / "a", of, [Refusing()], units=1, budget=1.0, passes=passes)
    assert len(Cache(tmp_path / "a").stream(CORPUS, "light").ids) >= 8
    rest = LightEncoder()
    extract(tmp_path / "a", of, [rest])
    assert last in rest.calls and len(rest.calls) <= 2
    assert stream_of(tmp_path / "a") == reference(tmp_path)


def test_streams_of_text_do_not_suffer_from_bad_audio(tmp_path: Path) -> None:
    """Their numbers do not depend on it, so its faults are no failures of theirs."""

    def decoder(utterance: Utterance) -> Clip:
        if utterance.id == "clip2":
            raise InputFailure("undecodable", "noise")
        if utterance.id == "clip3":
            raise OSError("bad disk")
        return decode(utterance)

    class Text(LightEncoder):
        """Hears nothing."""

        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            return super().encode([Clip(c.id, None, c.text, c.words) for c in clips], layers)

    text = Text("text", ("text", "words"))
    outcome = extract(tmp_path, manifest(IDS), [LightEncoder(), text], decoder=decoder)
    assert stream_of(tmp_path)["failures"] == {"clip2": ["undecodable", "noise"]}
    assert stream_of(tmp_path)["missing"] == ["clip3"] and list(outcome.unresolved) == ["clip3"]
    found = stream_of(tmp_path, "text")
    assert sorted(found["items"]) == IDS and not found["failures"]
    extract(tmp_path / "alone", manifest(IDS), [Text("text", ("text", "words"))])
    assert found == stream_of(tmp_path / "alone", "text")


@pytest.mark.parametrize("moment", [1, 4, 9])
def test_an_interrupt_commits_what_is_finished(tmp_path: Path, moment: int) -> None:
    class Interrupted(LightEncoder):
        def one(self, clip: Clip, layers: Layers) -> LayerItems | InputFailure:
            if len(self.passes) > moment:
                raise KeyboardInterrupt
            return super().one(clip, layers)

    encoder = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "a", manifest(IDS), [encoder], units=2, budget=1.0)
    finished = [i for ids, _ in encoder.passes[:-1] for i in ids]
    assert sorted(stream_of(tmp_path / "a")["items"]) == sorted(finished) and len(finished) == moment
    rest = LightEncoder()
    extract(tmp_path / "a", manifest(IDS), [rest])
    assert sorted(rest.calls) == sorted(set(IDS) - set(finished))
    assert stream_of(tmp_path / "a") == reference(tmp_path)


def test_what_another_worker_commits_meanwhile_is_left_out(tmp_path: Path) -> None:
    """The other one does everything while this one is at its first batch."""

    class Overtaken(LightEncoder):
        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            if not self.passes:
                extract(tmp_path, manifest(IDS), [LightEncoder()], units=10, budget=1.0)
            return super().encode(clips, layers)

    encoder = Overtaken()
    outcome = extract(tmp_path, manifest(IDS), [encoder], units=10, budget=1.0)
    assert outcome.committed == 0 and outcome.encoded < 10  # no more than was decoded ahead
    assert len(list(tmp_path.glob(f"{CORPUS}/*/commits/*"))) == 10


def test_a_store_that_fails_stops_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emocache.cache.local import LocalObjects

    real, puts = LocalObjects.put_shard, iter(range(99))

    def full(self: LocalObjects, *args: Any) -> Any:
        if next(puts) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LocalObjects, "put_shard", full)
        with pytest.raises(EmocacheError, match=r"No space left on device.*run the same command again"):
            extract(tmp_path / "a", manifest(IDS), [LightEncoder()], units=5)
    assert len(list((tmp_path / "a").glob(f"{CORPUS}/*/commits/*"))) >= 2
    extract(tmp_path / "a", manifest(IDS), [LightEncoder()], units=5)
    assert stream_of(tmp_path / "a") == reference(tmp_path)


def test_every_worker_decodes_though_batches_are_small(tmp_path: Path) -> None:
    workers = 16
    together = threading.Barrier(workers)

    def decoder(utterance: Utterance) -> Clip:
        together.wait(10)  # breaks unless so many decode at the same time
        return decode(utterance)

    ids = [f"clip{n:03d}" for n in range(4 * workers)]
    outcome = extract(tmp_path, manifest(ids), [LightEncoder()], decoder=decoder, budget=1.0, units=1, workers=workers)
    assert outcome.committed == len(ids) and not outcome.unresolved


def test_little_is_decoded_ahead(tmp_path: Path) -> None:
    """Memory holds a few batches, however long the corpus."""
    ids = [f"clip{n:03d}" for n in range(60)]
    lock = threading.Lock()
    decoded, most = [0], [0]

    def decoder(utterance: Utterance) -> Clip:
        with lock:
            decoded[0] += 1
        return decode(utterance)

    class Watching(LightEncoder):
        def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
            results = super().encode(clips, layers)
            with lock:
                most[0] = max(most[0], decoded[0] - self.calls.total())
            return results

    extract(tmp_path, manifest(ids), [Watching()], decoder=decoder, budget=1.0, units=2)
    assert decoded[0] == 60 and most[0] <= 4
