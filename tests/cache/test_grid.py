"""Frames on a time grid, against a loop over grid points that knows nothing of sorting or of vectors."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emocache.cache.frames.time_grid import resample, time_grid

Array = npt.NDArray[Any]


def naive(
    frames: Array, times: Array, grid: Array, where: Array | None, reach: float | None
) -> tuple[list[list[float]], list[bool]]:
    """One grid point after the other, by the definitions of `resample`."""
    timed = [(start, end, list(map(float, f))) for (start, end), f in zip(times, frames, strict=True)]
    known = sorted({(start + end) / 2 for start, end, _ in timed if not math.isnan(start + end)})
    if reach is None:
        reach = median(b - a for a, b in pairwise(known)) if len(known) > 1 else 0.0
    kept = [f for i, f in enumerate(timed) if not math.isnan(f[0] + f[1]) and (where is None or where[i])]
    centres = sorted({(start + end) / 2 for start, end, _ in kept})

    def frame(centre: float) -> list[float]:
        same = [f for start, end, f in kept if (start + end) / 2 == centre]
        return [sum(column) / len(same) for column in zip(*same, strict=True)]

    def zone(start: float, end: float) -> tuple[float, float]:
        return min(start, (start + end) / 2 - reach), max(end, (start + end) / 2 + reach)

    values, mask = [], []
    for t in grid:
        before = [c for c in centres if c <= t]
        after = [c for c in centres if c > t]
        until = max((zone(s, e)[1] for s, e, _ in kept if (s + e) / 2 <= t), default=-math.inf)
        since = min((zone(s, e)[0] for s, e, _ in kept if (s + e) / 2 > t), default=math.inf)
        mask.append(any(zone(s, e)[0] <= t <= zone(s, e)[1] for s, e, _ in kept))
        if not mask[-1]:
            values.append([0.0] * frames.shape[1])
        elif before and after and since <= until:
            share = (t - before[-1]) / (after[0] - before[-1])
            pairs = zip(frame(before[-1]), frame(after[0]), strict=True)
            values.append([(1 - share) * a + share * b for a, b in pairs])
        else:
            values.append(frame(before[-1] if t <= until else after[0]))
    return values, mask


def spans(starts: Array, width: float | None = None) -> Array:
    """(T, 2) of the first T starts: as wide as given, or each until the next."""
    return np.stack([starts, starts + width], 1) if width is not None else np.stack([starts[:-1], starts[1:]], 1)


ticks = st.integers(-40, 240).map(lambda n: n / 32)  # exact in binary, so that boundaries are hit exactly
frame = st.tuples(ticks, st.integers(0, 64).map(lambda n: n / 32), st.integers(-9, 9), st.booleans(), st.booleans())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(frame, max_size=9),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 40).map(lambda n: n / 32)),
    st.lists(ticks, max_size=12),
)
def test_equals_a_loop(drawn: Sequence[Any], masked: bool, reach: float | None, grid: list[float]) -> None:
    times = np.asarray([(s, s + w) for s, w, *_ in drawn], np.float64).reshape(-1, 2)
    times[[i for i, (*_, untimed) in enumerate(drawn) if untimed and i % 3 == 0]] = np.nan
    frames = np.asarray([(v, i) for i, (_, _, v, _, _) in enumerate(drawn)], np.float16).reshape(-1, 2)
    where = np.asarray([u for *_, u, _ in drawn], np.bool_) if masked else None
    points = np.asarray(grid, np.float64)
    values, mask = resample(frames, times, points, where=where, reach=reach)
    expected, near = naive(frames, times, points, where, reach)
    assert mask.tolist() == near
    assert values.dtype == np.float32 and values.shape == (len(grid), 2) and mask.dtype == np.bool_
    np.testing.assert_allclose(values, np.reshape(expected, (-1, 2)), atol=1e-4)


def test_the_grid() -> None:
    grid = time_grid(15.0)
    assert len(grid) == 750 and grid.dtype == np.float64
    np.testing.assert_allclose(grid, 0.01 + 0.02 * np.arange(750), atol=1e-12)
    for duration in (0.001, 0.01, 0.011, 0.3, 1.0, 1.03, 14.999):
        points = time_grid(duration, 50.0)
        assert len(points) == max(1, sum((k + 0.5) / 50 < duration for k in range(1000)))
    for wrong in ((0, 50), (1, 0), (math.nan, 50), (math.inf, 50)):
        with pytest.raises(ValueError, match="expected positive numbers"):
            time_grid(*wrong)


VARIABLE = np.cumsum([0, *np.tile([1 / 30, 1 / 15, 1 / 24, 0.04, 0.12], 60)])
SOURCES = {
    "25 fps": spans(np.arange(301) / 25),
    "29.97 fps": spans(np.arange(361) * 1001 / 30000),
    "variable": spans(VARIABLE),
    "5 fps of 25": spans(np.arange(61) / 5, 1 / 25),
    "logmel": spans(np.arange(1201) / 100 - 0.0125, 0.025),
    "prosody": spans(np.arange(12) * 1.0 - 1, 3.0),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_straight_line_has_no_holes_and_stays_straight(name: str) -> None:
    times = SOURCES[name]
    centres = times.mean(axis=1)
    grid = time_grid(12.0)
    values, mask = resample(np.stack([3 * centres - 1, -centres], 1), times, grid)
    assert mask.all()
    inside = (grid >= centres[0]) & (grid <= centres[-1])
    assert inside.sum() > 500
    np.testing.assert_allclose(values[inside], np.stack([3 * grid - 1, -grid], 1)[inside], atol=2e-5)


@pytest.mark.parametrize("name", SOURCES)
def test_exact_where_stamps_coincide(name: str) -> None:
    times = SOURCES[name]
    frames = np.random.default_rng(1).standard_normal((len(times), 3)).astype(np.float16)
    values, mask = resample(frames, times, times.mean(axis=1))
    assert mask.all()
    np.testing.assert_array_equal(values, frames.astype(np.float32))


def test_half_a_second_without_a_face_is_a_hole() -> None:
    times = SOURCES["25 fps"]
    frames = np.arange(len(times), dtype=np.float32)[:, None]
    found = np.ones(len(times), np.bool_)
    found[100:113] = False  # 4.00 s to 4.52 s
    grid = time_grid(12.0)
    values, mask = resample(frames, times, grid, where=found)
    assert np.flatnonzero(~mask).tolist() == list(range(201, 225))  # one period beyond the last centre, 3.98 s
    assert (values[~mask] == 0).all()
    np.testing.assert_array_equal(values[199:201], [[99], [99]])
    np.testing.assert_array_equal(values[225:227], [[113], [113]])
    for other in (
        resample(frames[found], times[found], grid),
        resample(frames[::-1], times[::-1], grid, where=found[::-1]),
    ):
        np.testing.assert_array_equal(values, other[0])
        np.testing.assert_array_equal(mask, other[1])


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 20), st.floats(0.01, 0.3), st.integers(1, 2), st.floats(50, 1e6))
def test_frames_far_away_change_nothing(count: int, hop: float, far: int, away: float) -> None:
    times = spans(hop * np.arange(count), hop)
    frames = np.random.default_rng(count).standard_normal((count, 2))
    grid = time_grid(count * hop + 2)
    more = np.concatenate([frames, 1e30 * np.ones((far, 2))]), np.concatenate([times, away + times[:far]])
    for reach in (None, 0.1):
        for ours, theirs in zip(
            resample(frames, times, grid, reach=reach), resample(*more, grid, reach=reach), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_an_utterance_vector_is_near_all_over_its_span() -> None:
    grid = time_grid(4.0)
    values, mask = resample(np.asarray([[1.5, 2.5]]), np.asarray([[0.0, 3.0]]), grid)
    assert mask.tolist() == (grid < 3).tolist()
    assert (values[mask] == [1.5, 2.5]).all() and not values[~mask].any()


def test_a_long_frame_is_near_beyond_a_short_one_inside_it() -> None:
    times, grid = np.asarray([[0, 4], [2.5, 2.75], [1.25, 1.5]]), np.asarray([-0.5, 0.25, 1.0, 3.0, 3.75, 4.25])
    values, mask = resample(np.asarray([[1.0], [2.0], [3.0]]), times, grid, reach=0)
    assert mask.tolist() == [False, True, True, True, True, False]
    assert values.ravel().tolist() == [0, 3, 3, 2, 2, 0]


def test_tokens_of_one_word_are_averaged_and_special_ones_left_out() -> None:
    nan = math.nan
    times = np.asarray([[nan, nan], [0, 1], [1, 2], [1, 2], [nan, nan]])
    frames = np.asarray([[9], [1], [2], [4], [9]], np.float16)
    values, mask = resample(frames, times, np.asarray([0.5, 1.0, 1.5, 1.75]))
    assert values.ravel().tolist() == [1, 2, 3, 3] and mask.all()
    values, mask = resample(frames[[0, 4]], times[[0, 4]], np.asarray([0.5]))
    assert not mask.any() and not values.any()


def test_shapes_are_checked() -> None:
    for frames, times, where in [((3, 2), (2, 2), None), ((3,), (3, 2), None), ((3, 2), (3, 2), (2,))]:
        with pytest.raises(ValueError, match="expected"):
            used = None if where is None else np.ones(where, np.bool_)
            resample(np.zeros(frames), np.zeros(times), np.zeros(1), where=used)
