"""Time-stamped labels on the frame grid and back."""

import numpy as np
import pytest

from emocache.train.references import Stamps, on_grid, on_stamps

STAMPS = Stamps(np.array([0.0, 0.1, 0.2, 0.3]), np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 0.0]]))


def test_grid_values_are_interpolated_and_never_extrapolated() -> None:
    centres = np.array([0.05, 0.25, 0.3, 0.39, 0.41, 0.6])
    values, valid = on_grid(STAMPS, centres, delay=0.0)
    assert np.allclose(values[:2], [[0.5, 1.0], [2.5, 0.0]])
    assert valid.tolist() == [True, True, True, True, False, False]  # one period beyond the last stamp, not more


def test_gaps_are_masked() -> None:
    stamps = Stamps(np.array([0.0, 0.1, 0.2, 1.0, 1.1]), np.zeros((5, 1)))
    assert on_grid(stamps, np.array([0.15, 0.29, 0.6, 0.95]), 0.0)[1].tolist() == [True, True, False, True]


def test_one_stamp_counts_everywhere() -> None:
    values, valid = on_grid(Stamps(np.array([0.5]), np.array([[2.0]])), np.array([0.0, 9.0]), 0.0)
    assert values.tolist() == [[2.0], [2.0]] and valid.all()


@pytest.mark.parametrize("delay", [0.0, 0.1])
def test_a_perfect_head_is_scored_as_perfect_with_any_delay(delay: float) -> None:
    centres = np.arange(-0.5, 1.0, 0.05)
    targets, _ = on_grid(STAMPS, centres, delay)
    assert np.allclose(on_stamps(targets.astype(np.float64), centres, STAMPS, delay), STAMPS.values)


def test_delay_trains_on_later_labels() -> None:
    assert np.allclose(on_grid(STAMPS, np.array([0.1]), 0.1)[0], [[2.0, 0.0]])
