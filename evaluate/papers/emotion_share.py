"""Spearman's correlation of two architectures on shares of emotions, as in Tables 1 and 2 of the emotion share paper.

The paper's Table 2 gives one average a feature. For some features that is Architecture 2's, for others the average of
each emotion's better architecture, which is a maximum picked on the part that is reported. Here the three averages are
three columns, each with its own change against the baseline.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...train.records.metrics import Score, metric_name
from ...train.records.published import read_papers
from ..scoring.result_groups import Result, flat_texts
from ..scoring.scored import Evaluation
from ..scoring.statistics import with_dead_as_zero


def _published_baseline() -> dict[str, float]:
    paper = next(paper for paper in read_papers() if paper.paper == 2)
    table = paper.table[0]
    row = next(row for row in table.row if row.label == "Baseline")
    return {column.target: float(value) for column, value in zip(table.column, row.values(""), strict=True)}


BASELINE = _published_baseline()
"""The challenge's own baseline on devel as the paper's Table 1 quotes it (Schuller et al. 2023); it is not run here."""
BEST_OF = "best_of (test-selected)"


@dataclass(frozen=True)
class Pair:
    """One feature under both architectures.

    Attributes:
        name: what both experiments are called, with their streams.
        arch1, arch2: {target: correlation}, all of it over the same targets; empty where there are no runs.
        notes: what must be told of these numbers.
    """

    name: str
    arch1: Mapping[str, float]
    arch2: Mapping[str, float]
    notes: tuple[str, ...] = field(default=())

    @property
    def targets(self) -> list[str]:
        """The targets, in the order of the experiment."""
        return list(self.arch1 or self.arch2)

    @property
    def best_of(self) -> dict[str, float]:
        """Each target's larger correlation; empty without both architectures."""
        if not (self.arch1 and self.arch2):
            return {}
        return {target: float(np.maximum(self.arch1[target], self.arch2[target])) for target in self.targets}

    @property
    def averages(self) -> dict[str, float]:
        """Means over the targets, which are never mixed: mean_arch1, mean_arch2 and mean_best_of; NaN without runs."""
        columns = {"mean_arch1": self.arch1, "mean_arch2": self.arch2, "mean_best_of": self.best_of}
        return {name: float(np.mean([*c.values()])) if c else math.nan for name, c in columns.items()}

    @property
    def baseline(self) -> float:
        """Mean of the baseline over the targets; NaN where it lacks one of them."""
        return float(np.mean([BASELINE.get(target, math.nan) for target in self.targets]))


def relative_change(a: float, b: float) -> float:
    """Return 100 (a - b) / b, in percent.

    >>> round(relative_change(0.523, 0.5), 1)
    4.6
    """
    return 100 * (a - b) / b


def pairs(evaluations: Sequence[Evaluation]) -> list[Pair]:
    """Pair the experiments whose names differ in -arch1 and -arch2 alone; others are pairs of one.

    The head's settings tell which architecture it is, not the name; results of other heads are left out. The
    correlation of a dead output, which is constant, is undefined: it counts as 0, and that is noted.
    """
    found: dict[tuple[str, str, str, tuple[str, ...]], dict[str, Evaluation]] = {}
    for evaluation in evaluations:
        result, architecture = evaluation.result, _architecture(evaluation.result)
        if architecture is None:
            continue
        name = result.first.experiment
        for stem in (name.removesuffix(f"-{architecture}"), name):  # the whole name where another is called like that
            key = (f"{stem} ({result.streams_told})", result.difference, result.corpus, result.first.targets)
            if architecture not in found.setdefault(key, {}):
                found[key][architecture] = evaluation
                break
    made = []
    for (stem, difference, *_), both in found.items():
        notes: list[str] = []
        columns = {name: _correlations(name, one, notes) for name, one in both.items()}
        notes += [f"{name} is marked: {', '.join(one.result.marks)}" for name, one in both.items() if one.result.marks]
        name = f"{stem} {difference}".rstrip()
        made.append(Pair(name, columns.get("arch1", {}), columns.get("arch2", {}), tuple(notes)))
    return made


def _architecture(result: Result) -> str | None:
    """Return "arch1" or "arch2" by the head's settings, or those of all members of a fusion; None of any other head."""
    config = flat_texts(result.first.config)
    heads = {key.removesuffix("head.kind") for key in config if key == "head.kind" or key.endswith(".head.kind")}
    told = {(config[f"{of}head.kind"], config.get(f"{of}head.attention") == "true") for of in heads}
    architectures = {("emotion_share", False): "arch1", ("emotion_share", True): "arch2"}
    # A fusion has the architecture of its members if all have the same.
    return architectures.get(told.pop()) if len(told) == 1 and result.first.task == "regression" else None


def _correlations(name: str, evaluation: Evaluation, notes: list[str]) -> dict[str, float]:
    targets = evaluation.result.first.targets
    summaries = [evaluation.metrics[metric_name("spearman", target)] for target in targets]
    reasons = [summary.reasons.get("mean", "") for summary in summaries]
    scores = {f"{name} {t}": Score(s.mean, why) for t, s, why in zip(targets, summaries, reasons, strict=True)}
    values, undefined = with_dead_as_zero(scores, notes)
    notes += [f"{name} has no average: {undefined}"] if undefined else []
    return dict(zip(targets, values, strict=True))
