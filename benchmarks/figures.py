"""Ratios of two ways to do the same work, how sure they are, and the bounds that they must keep."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 2000


class Figure(NamedTuple):
    """One ratio and its bound.

    Attributes:
        name: "first : second".
        bound: what the ratio was where it was measured last, less what machines differ by; None: it is only told.
        ratios: speed of the first over speed of the second, one of every pair; higher is better for us.
        aim: what it shall reach.
    """

    name: str
    bound: float | None
    ratios: Sequence[float]
    aim: float | None = None

    @property
    def verdict(self) -> str:
        """Judge by the whole interval: "ok" above the bound, "missed" below, "open" where it holds the bound."""
        low, middle, high = interval(self.ratios)
        if self.bound is None:
            return ""
        if low < self.bound:
            return "missed" if high < self.bound else "open"
        return "ok" if self.aim is None or middle >= self.aim else f"ok, below the aim of {self.aim:.2f}"

    def line(self) -> str:
        """The ratio as a line of the table that `print_figures` prints."""
        low, middle, high = interval(self.ratios)
        bound = "" if self.bound is None else f">= {self.bound:5.2f}  {self.verdict}"
        return f"{self.name:<58} {middle:6.2f}  [{low:6.2f}, {high:6.2f}]  {bound}".rstrip()


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(low, median, high): the 95 % bootstrap interval of the median."""
    found = np.asarray(values)
    draws = np.random.default_rng(0).choice(found, (_DRAWS, len(found)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(np.median(found)), float(high)


def print_figures(figures: Iterable[Figure]) -> int:
    """Print each as soon as it is measured; returns how many bounds are missed."""
    print(f"{'speed of the first : the second':<58} {'median':>6}  {'95 % interval':<16}  bound", flush=True)
    missed = 0
    for figure in figures:
        print(figure.line(), flush=True)
        missed += figure.verdict == "missed"
    return missed
