"""The first thing that is told of results: the best system of each corpus and target, beside chance."""

import math
from collections.abc import Callable, Sequence

from ...train.records.metrics import METRICS, base_name
from ..scoring.ranking.standings import Standing, chance, rank_of, standings
from ..scoring.scored import Evaluation
from .cells import counted, number, result_name

Published = Callable[[Evaluation, str], str]
"""(result, metric) -> the number that a paper published of it, with where; "" where there is none."""


def headlines(evaluations: Sequence[Evaluation], published: Published = lambda *_: "") -> list[str]:
    """Tell the best result of each standing that has a score, in lines.

    Args:
        evaluations: the results.
        published: finds the published number of a result.

    Returns:
        Two lines for each, or three.
    """
    known = [one for one in standings(evaluations) if not math.isnan(one.best.metrics[one.metric].pooled)]
    return [line for standing in known for line in _told(standing, published)]


def _told(standing: Standing, published: Published) -> list[str]:
    best, metric, entries = standing.best, standing.metric, standing.entries
    place = ", ".join([best.result.corpus, standing.target or ", ".join(best.result.first.targets)])
    which = f"best of {len(entries)} systems is " if len(entries) > 1 else ""
    summary = best.metrics[metric]
    low, high = summary.ci95
    interval = "" if math.isnan(low) else f", 95 % interval {number(low)} to {number(high)}"
    parts = [f"{METRICS[base_name(metric)].title} {number(summary.pooled)}{interval} over"
             f" {counted(best.groups, best.unit)}"]  # fmt: skip
    guess, value = chance(best, metric)
    if guess:
        better = rank_of(metric, value) > max(rank_of(metric, low), rank_of(metric, high))
        unsure = "" if math.isnan(low) or better else ", which the interval does not exclude"
        parts.append(f"by chance {number(value)} ({guess}){unsure}")
    if text := published(best, metric):
        parts.append(f"published {text}")
    lines = [f"{place}: {which}{result_name(best.result, marks=True)}", f"  {'; '.join(parts)}"]
    if standing.higher:
        first, *others = standing.higher
        more = f", and {len(others)} more" if others else ""
        score = number(first.metrics[metric].pooled)
        lines.append(f"  not called best: {result_name(first.result, marks=True)} {score}{more}")
    return lines
