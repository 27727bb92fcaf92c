"""Cells and notes of the tables: numbers, intervals, the names of results and remarks on them."""

import math
from collections.abc import Iterable

from ..scoring.ranking.differences import Difference
from ..scoring.result_groups import Result
from ..scoring.statistics import Interval, Summary

UNDEFINED = "–"


def number(value: float, sign: bool = False, digits: int = 3) -> str:
    """Format a score with three digits, or so many; an undefined one as a dash."""
    return UNDEFINED if math.isnan(value) else f"{value:{'+' if sign else ''}z.{digits}f}"


def interval(ends: Interval, sign: bool = False) -> str:
    """Format both ends of an interval in brackets; an undefined one is empty."""
    return "" if math.isnan(ends[0]) else f"[{number(ends[0], sign)}, {number(ends[1], sign)}]"


def p_value(value: float) -> str:
    """Format a p-value with four digits, or as less than the least that these can show."""
    if math.isnan(value):
        return UNDEFINED
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def mean_std(summary: Summary) -> str:
    """Format a metric's mean over folds with its standard deviation, where it has one."""
    return number(summary.mean) + ("" if math.isnan(summary.std) else f" ± {number(summary.std)}")


def pooled_interval(summary: Summary) -> str:
    """Format a metric's pooled score with its interval, where it has one."""
    return f"{number(summary.pooled)} {interval(summary.ci95)}".rstrip()


def counted(number: int, what: str) -> str:
    """Return a number with what it counts, in the plural but for one."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def grid_of(result: Result) -> str:
    """Return the number of folds and seeds, as in "5 folds x 1 seed"."""
    return f"{counted(len(result.folds), 'fold')} x {counted(len(result.seeds), 'seed')}"


def told_of(numbers: Summary | Difference, untold: Iterable[str] = ()) -> str:
    """Tell why some of a metric's numbers are undefined, and what was done to it.

    Args:
        numbers: the metric's.
        untold: beginnings of names of numbers that are passed over.

    Returns:
        The reasons and notes, joined by semicolons; "" if there are none.
    """
    reasons: dict[str, list[str]] = {}
    for name, reason in numbers.reasons.items():
        if not any(name.startswith(part) for part in untold):
            reasons.setdefault(reason, []).append(name)
    return "; ".join([*(f"no {', '.join(names)}: {why}" for why, names in reasons.items()), *numbers.notes])


def result_name(result: Result, marks: bool = False) -> str:
    """Return the experiment with its streams and what sets it apart, as notes and titles name it."""
    name = marked_experiment(result) if marks else result.first.experiment
    return f"{name} ({' '.join(filter(None, (result.streams_told, setting_apart(result))))})"


def marked_experiment(result: Result) -> str:
    """Return the experiment's name, with what must be told wherever its numbers stand."""
    return result.first.experiment + (f" [{', '.join(result.marks)}]" if result.marks else "")


def setting_apart(result: Result) -> str:
    """Tell what sets a result apart, less its streams, which every table shows anyway."""
    return " ".join(part for part in result.difference.split(" ") if not part.startswith(("streams=", "streams.")))
