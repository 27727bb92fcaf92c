"""Frames selected, joined, averaged and cut into pieces, against loops over single frames."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError
from emocache.train.data.dataset import Dataset, Features
from emocache.train.data.example import Example
from emocache.train.data.memory import Memory
from emocache.train.heads.head import Segments
from emocache.train.inputs.joining import JoinedStreams, average
from emocache.train.inputs.prepared import Joined
from emocache.train.inputs.transforms import cut

if TYPE_CHECKING:
    from .conftest import Toy

Clip = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]
NOTHING: Clip = (np.zeros((0, 2), np.float32), np.zeros((0, 2)))


def regular(length: int, rate: float, seed: int = 0, start: float = 0.0) -> Clip:
    """Frames of two channels that follow each other."""
    starts = start + np.arange(length) / rate
    frames = np.random.default_rng(seed).normal(size=(length, 2)).astype(np.float32)
    return frames, np.stack([starts, starts + 1 / rate], axis=1)


def features(clips: Sequence[Clip], used: Sequence[bool] | None = None) -> Features:
    """Clips as one stream."""
    return Features(
        np.concatenate([frames for frames, _ in clips]),
        np.cumsum([0, *(len(frames) for frames, _ in clips)]),
        np.concatenate([times for _, times in clips]),
        None if used is None else np.array(used),
    )


def shaped(toy: "Toy", streams: Mapping[str, Features], *changes: str) -> Joined:
    """What a head with one input is given of some streams."""
    rows = len(next(iter(streams.values())).lengths)
    examples = [Example("c", f"u{row}", None, None, None, None, 0) for row in range(rows)]
    settings = toy.settings(f"streams={list(streams)}", "head.kind=recurrent", *changes)
    return JoinedStreams(Dataset(examples, (), streams, np.ones(rows, bool))).of(settings, "frames")


def test_folds_share_what_was_joined_until_a_setting_changes_it(toy: "Toy") -> None:
    streams = {"a": features([regular(6, 10)]), "b": features([regular(6, 10, 1)])}
    example = Example("c", "u0", None, None, None, None, 0)
    joined = JoinedStreams(Dataset([example], (), streams, np.ones(1, bool)))

    def made(*changes: str) -> Joined:
        return joined.of(toy.settings('streams=["a", "b"]', "head.kind=recurrent", *changes), "frames")

    first = made()
    # What is fitted in each fold, or is not of the features at all, leaves the frames as they are.
    assert made("features.pca=1", "features.normalise=none", "training.epochs=1") is first
    cropped = made("features.crop_s=0.3")
    assert cropped is not first and cropped.lengths.tolist() == [3]
    again = made()
    assert again is not first and np.array_equal(again.frames, first.frames)  # the last ones only are held


def test_the_tokens_of_a_word_become_their_mean_and_special_ones_are_dropped(toy: "Toy") -> None:
    nan = (np.nan, np.nan)
    frames = np.arange(14, dtype=np.float16).reshape(7, 2)
    times = np.array([nan, (0.0, 0.3), (0.3, 0.5), (0.3, 0.5), (0.3, 0.5), (0.7, 0.9), nan])
    made = shaped(toy, {"a": features([(frames, times), NOTHING, (frames[:1], times[1:2])])}, "features.words=true")
    assert np.allclose(made.of(0), [[2, 3], [6, 7], [10, 11]]) and np.allclose(made.of(2), [[0, 1]])
    assert made.times_of(0).tolist() == [[0.0, 0.3], [0.3, 0.5], [0.7, 0.9]] and made.lengths.tolist() == [3, 0, 1]


def test_the_first_seconds_are_those_whose_centres_lie_in_them(toy: "Toy") -> None:
    clip = regular(20, 10)
    made = shaped(toy, {"a": features([clip, regular(3, 10)])}, "features.crop_s=0.72")
    kept = [i for i in range(20) if clip[1][i].mean() < 0.72]
    assert np.array_equal(made.of(0), clip[0][kept]) and len(kept) == 7 and made.lengths.tolist() == [7, 3]


def test_a_crop_leaves_vectors_of_whole_utterances_alone(toy: "Toy") -> None:
    placed = (np.ones((1, 2), np.float32), np.array([[0.0, 9.0]]))
    without_times = (np.ones((1, 2), np.float32), np.full((1, 2), np.nan))
    made = shaped(toy, {"a": features([placed, without_times])}, "features.crop_s=2")
    assert made.lengths.tolist() == [1, 1]


def test_the_first_frames_are_counted_after_the_stored_mask(toy: "Toy") -> None:
    clip = regular(8, 10)
    used = [False, True, True, False, True, True, True, False]
    made = shaped(toy, {"a": features([clip], used)}, "features.where=face", "features.max_frames=3")
    assert np.array_equal(made.of(0), clip[0][[1, 2, 4]])
    assert np.array_equal(shaped(toy, {"a": features([clip])}, "features.max_frames=3").of(0), clip[0][:3])


def on_grid(clip: Clip, used: Sequence[bool], point: float, period: float) -> npt.NDArray[np.float32] | None:
    """One point of the grid: interpolated between the nearest frames on either side; None in a hole."""
    known = [i for i in range(len(used)) if used[i]]
    centres = {i: float(clip[1][i].mean()) for i in known}
    near = [i for i in known if abs(centres[i] - point) <= period + 1e-9]
    before = [i for i in known if centres[i] <= point]
    after = [i for i in known if centres[i] > point]
    if not near:
        return None
    if before and after and after[0] - before[-1] <= 2:  # at most one frame is missing between them
        i, j = before[-1], after[0]
        share = (point - centres[i]) / (centres[j] - centres[i])
        return np.asarray((1 - share) * clip[0][i] + share * clip[0][j])
    return np.asarray(clip[0][min(near, key=lambda i: abs(centres[i] - point))])


def test_two_rates_are_joined_by_time_with_holes_and_absent_streams(toy: "Toy") -> None:
    fast = [regular(40, 50, 1), regular(30, 50, 2), NOTHING]
    slow = [regular(18, 20, 3, start=0.1), NOTHING, regular(9, 20, 4)]
    used = np.ones(27, bool)
    used[[4, 5, 6, 7, 11, 17, 20]] = False  # a hole, single frames, and the end
    streams = {"fast": features(fast), "slow": features(slow, used.tolist())}
    made = shaped(toy, streams, "features.grid_hz=50", "features.where=face", 'modalities="any"')
    assert made.valid is not None and made.lengths.tolist() == [50, 30, 22]
    holes = 0
    for row, (start, end) in enumerate(pairwise(made.offsets)):
        assert np.allclose(made.times_of(row).mean(axis=1), (np.arange(end - start) + 0.5) / 50)
        clips = (fast[row], np.ones(len(fast[row][0]), bool), 1 / 50), (slow[row], used[[0, 18, 18][row] :], 1 / 20)
        for stream, (clip, own, period) in enumerate(clips):
            for at in range(end - start):
                naive = on_grid(clip, own[: len(clip[0])].tolist(), (at + 0.5) / 50, period)
                found = made.of(row)[at, 2 * stream : 2 * stream + 2]
                assert made.valid[start + at, stream] == (naive is not None)
                assert np.allclose(found, 0.0 if naive is None else naive, atol=1e-5)
                holes += naive is None
    assert holes > 50


def test_streams_of_different_lengths_need_a_grid(toy: "Toy") -> None:
    streams = {"a": features([regular(6, 10)]), "b": features([regular(5, 10)])}
    for more in ((), ("features.max_frames=20",)):
        with pytest.raises(EmocacheError, match=r"'c/u0' \(a 6, b 5; 1 utterances differ\); set features.grid_hz"):
            shaped(toy, streams, *more)
    made = shaped(toy, streams, "features.max_frames=5")
    assert np.array_equal(made.of(0), np.concatenate([streams["a"].of(0)[:5], streams["b"].of(0)], axis=1))


def test_frames_joined_by_their_number_have_zeros_after_the_shorter_stream(toy: "Toy") -> None:
    a = [regular(6, 10, 1), NOTHING, regular(2, 10, 2), NOTHING]
    b = [regular(4, 30, 3), regular(5, 30, 4), NOTHING, NOTHING]
    made = shaped(toy, {"a": features(a), "b": features(b)}, "features.align=index", 'modalities="any"')
    assert made.lengths.tolist() == [6, 5, 2, 0] and made.valid is not None
    for at in range(6):
        assert np.array_equal(made.of(0)[at], [*a[0][0][at], *(b[0][0][at] if at < 4 else [0, 0])])
    assert np.array_equal(made.of(1), np.concatenate([np.zeros((5, 2)), b[1][0]], axis=1))
    assert np.array_equal(made.of(2), np.concatenate([a[2][0], np.zeros((2, 2))], axis=1))
    valid = [[True, True]] * 4 + [[True, False]] * 2 + [[False, True]] * 5 + [[True, False]] * 2
    assert made.valid.tolist() == valid
    assert np.array_equal(made.times_of(0), a[0][1]) and np.array_equal(made.times_of(1), b[1][1])


def test_averages_are_of_what_is_there(toy: "Toy") -> None:
    random = np.random.default_rng(0)
    lengths, widths = [7, 0, 1, 6], (2, 3)
    clips = [regular(length, 10, seed) for seed, length in enumerate(lengths)]
    valid = random.random((14, 2)) < 0.6
    frames = random.normal(size=(14, 5)).astype(np.float32) * np.repeat(valid, widths, axis=1)
    whole = Joined(frames, np.cumsum([0, *lengths]), features(clips).times, None, widths, valid)
    made = average(whole, 3, Memory())
    assert made.valid is not None and made.lengths.tolist() == [3, 0, 1, 2]
    at = 0
    for row, length in enumerate(lengths):
        for start in range(0, length, 3):
            own = range(whole.offsets[row] + start, whole.offsets[row] + min(start + 3, length))
            for channel in range(5):
                there = [frames[i, channel] for i in own if valid[i, int(channel >= 2)]]
                assert np.isclose(made.frames[at, channel], np.mean(there) if there else 0.0, atol=1e-6)
                assert made.valid[at, int(channel >= 2)] == bool(there)
            assert made.times[at].tolist() == [whole.times[own[0], 0], whole.times[own[-1], 1]]
            at += 1
    plain = average(Joined(frames, whole.offsets, whole.times, None, widths), 3, Memory())
    assert np.allclose(plain.of(0)[2], frames[6]) and np.allclose(plain.of(0)[0], frames[:3].mean(axis=0))


WORDS = {
    "usual": ([(0.1, 0.35), (0.4, 0.62), (0.9, 1.1)], 60),
    "one word": ([(0.4, 0.5)], 30),
    "more words than frames": ([(k / 10, (k + 1) / 10) for k in range(9)], 4),
    "words after the audio's end": ([(0.0, 0.3), (0.3, 0.9), (1.0, 1.4), (1.5, 1.6)], 25),
    "audio long after the last word": ([(0.2, 0.3), (0.3, 0.4)], 90),
    "overlapping words": ([(0.1, 0.6), (0.4, 0.8)], 50),
    "no words": ([], 20),
    "no audio": ([(0.1, 0.2)], 0),
}


def naive_pieces(kind: str, spans: Sequence[tuple[float, float]], times: npt.NDArray[np.float64]) -> list[list[int]]:
    """The frames of each piece: equations of the paper's segmentation, one piece and one frame at a time."""
    if not len(times):
        return []
    duration, count = times[-1][1], len(spans)
    edges = [0.0] * count + [duration]
    for i in range(1, count):
        middle = (spans[i - 1][1] + spans[i][0]) / 2 if kind == "words" else i * duration / count
        edges[i] = min(max(middle, edges[i - 1]), duration)
    pieces = []
    for start, end in pairwise(edges):
        margin = 0.05 * (end - start)
        low, high = max(0.0, start - margin), min(duration, end + margin)
        centres = [frame.mean() for frame in times]
        inside = [i for i, centre in enumerate(centres) if low <= centre < high]
        nearest = min(range(len(times)), key=lambda i: abs(centres[i] - (low + high) / 2))
        pieces.append((inside or [nearest])[:20])
    return pieces


@pytest.mark.parametrize("kind", ["words", "equal"])
def test_pieces_are_those_of_a_loop(kind: Any) -> None:
    said = [(np.zeros((len(spans), 2), np.float32), np.reshape(spans, (-1, 2))) for spans, _ in WORDS.values()]
    sound = [regular(length, 50) for _, length in WORDS.values()]
    by, whole = features(said), features(sound)
    made = cut(by, whole, Segments("audio", "text", kind, 0.1, 20))
    for row, (name, (spans, _)) in enumerate(WORDS.items()):
        naive = naive_pieces(kind, spans, whole.times_of(row))
        own = made.bounds[made.offsets[row] : made.offsets[row + 1]]
        assert [list(range(first, stop)) for first, stop in own] == naive, name
        assert len(own) == (len(spans) if len(sound[row][0]) else 0)
    longest = made.bounds[made.offsets[4] : made.offsets[5]]
    assert (longest[:, 1] - longest[:, 0]).max() == 20


def test_pieces_reach_from_the_first_frame_to_the_last() -> None:
    """Silence before the first word and after the last belongs to them, whatever cuts."""
    said = (np.zeros((3, 2), np.float32), np.array([(0.8, 1.0), (1.0, 1.3), (1.4, 1.5)]))
    sound = regular(120, 50)
    for kind in ("words", "equal"):
        made = cut(features([said]), features([sound]), Segments("audio", "text", kind, 0.0, 1000))
        assert made.bounds[0, 0] == 0 and made.bounds[-1, 1] == 120
        assert made.bounds[1:, 0].tolist() == made.bounds[:-1, 1].tolist()


def test_pieces_need_times() -> None:
    placed, lost = regular(4, 10), (np.zeros((2, 2), np.float32), np.full((2, 2), np.nan))
    segments = Segments("audio", "text", "words", 0.1, 300)
    with pytest.raises(EmocacheError, match=r"set features.text.words = true"):
        cut(features([lost]), features([placed]), segments)
    with pytest.raises(EmocacheError, match=r"the audio cannot be cut into pieces"):
        cut(features([placed]), features([lost]), segments)
    equal = cut(features([lost]), features([placed]), segments._replace(kind="equal"))
    assert equal.bounds.tolist() == [[0, 2], [2, 4]]
