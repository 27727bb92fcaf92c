"""Tables 1 and 2 of the emotion share paper: Spearman's correlation of two architectures on shares of emotions.

The paper's Table 2 gives one average a feature. For some features that is Architecture 2's, for others the average of
each emotion's better architecture, which is a maximum picked on the part that is reported. Here the three averages are
three columns, each with its own change against the baseline.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..output.printed_tables import UNDEFINED, Table
from ..scoring.metrics import Score, metric_name
from ..scoring.result_groups import Result, flatten
from ..scoring.scored import Evaluation
from ..scoring.statistics import with_dead_as_zero

BASELINE = {
    "anger": 0.428,
    "boredom": 0.545,
    "calmness": 0.559,
    "concentration": 0.524,
    "determination": 0.531,
    "excitement": 0.453,
    "interest": 0.431,
    "sadness": 0.476,
    "tiredness": 0.550,
}
"""The challenge's own baseline on devel as the paper's Table 1 quotes it (Schuller et al. 2023); it is not run here."""
BEST_OF = "best_of (test-selected)"
REPORT = "emotion_share"
"""What an experiment's `report` must name for its runs to be here."""


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
        """In the order of the experiment."""
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
    """100 (a - b) / b, in percent.

    >>> round(relative_change(0.523, 0.5), 1)
    4.6
    """
    return 100 * (a - b) / b


def pairs(evaluations: Sequence[Evaluation]) -> list[Pair]:
    """The experiments whose files ask for this report, paired where their names differ in -arch1 and -arch2 alone.

    Which architecture it is says the head, not the name. A dead output's correlation counts as 0 (models.md 3), which
    is noted.
    """
    found: dict[tuple[str, str, str, tuple[str, ...]], dict[str, Evaluation]] = {}
    for evaluation in evaluations:
        result, architecture = evaluation.result, _architecture(evaluation.result)
        if REPORT not in result.report or architecture is None:
            continue
        name = result.first.experiment
        for stem in (name.removesuffix(f"-{architecture}"), name):  # the whole name where another is called like that
            key = (f"{stem} ({'+'.join(result.streams)})", result.difference, result.corpus, result.first.targets)
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
    """ "arch1" or "arch2" by the head's settings, or those of all members of a fusion; None of any other head."""
    config = flatten(result.first.config)
    heads = {key.removesuffix("head.kind") for key in config if key == "head.kind" or key.endswith(".head.kind")}
    told = {(config[f"{of}head.kind"], config.get(f"{of}head.attention") == "true") for of in heads}
    architectures = {("emotion_share", False): "arch1", ("emotion_share", True): "arch2"}
    return architectures.get(told.pop()) if len(told) == 1 and result.first.task == "regression" else None


def emotion_share_tables(made: Sequence[Pair]) -> list[Table]:
    """A table of each target's correlations, and one of averages and their changes against the baseline."""
    return [_by_target(block) for block in _blocks(made)] + [_averages(made)] if made else []


def emotion_share_csv(made: Sequence[Pair]) -> str:
    """One line for every pair and target, and one for its averages, with full precision; undefined is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    scores = ["arch1", "arch2", "best_of_test_selected"]
    changes = [f"change_{name}_percent" for name in scores]
    writer.writerow(["experiment", "target", *scores, "baseline", *changes, "remarks"])
    for pair in made:
        lines = {t: [c.get(t, math.nan) for c in (pair.arch1, pair.arch2, pair.best_of)] for t in pair.targets}
        for target, values in {**lines, "mean": [*pair.averages.values()]}.items():
            baseline = pair.baseline if target == "mean" else BASELINE.get(target, math.nan)
            numbers = [*values, baseline, *(relative_change(value, baseline) for value in values)]
            cells = ["" if math.isnan(number) else repr(number) for number in numbers]
            writer.writerow([pair.name, target, *cells, "; ".join(pair.notes)])
    return out.getvalue()


def _correlations(name: str, evaluation: Evaluation, notes: list[str]) -> dict[str, float]:
    targets = evaluation.result.first.targets
    summaries = [evaluation.metrics[metric_name("spearman", target)] for target in targets]
    reasons = [summary.reasons.get("mean", "") for summary in summaries]
    scores = {f"{name} {t}": Score(s.mean, why) for t, s, why in zip(targets, summaries, reasons, strict=True)}
    values, undefined = with_dead_as_zero(scores, notes)
    notes += [f"{name} has no average: {undefined}"] if undefined else []
    return dict(zip(targets, values, strict=True))


def _blocks(made: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs of the same targets together."""
    blocks: dict[tuple[str, ...], list[Pair]] = {}
    for pair in made:
        blocks.setdefault(tuple(pair.targets), []).append(pair)
    return list(blocks.values())


def _by_target(block: Sequence[Pair]) -> Table:
    targets = block[0].targets
    rows = [
        [pair.name, architecture, *(_number(values[target]) for target in targets)]
        for pair in block
        for architecture, values in (("1", pair.arch1), ("2", pair.arch2))
        if values
    ]
    rows.append(["baseline (quoted)", "", *(_number(BASELINE.get(target, math.nan)) for target in targets)])
    return Table("Spearman's correlation by target", ["experiment", "architecture", *targets], rows, 2, _notes(block))


def _averages(made: Sequence[Pair]) -> Table:
    rows = []
    for pair in made:
        averages = pair.averages.values()
        changes = (relative_change(average, pair.baseline) for average in averages)
        rows.append([pair.name, *map(_number, averages), _number(pair.baseline), *map(_percent, changes)])
    headings = ["experiment", "mean_arch1", "mean_arch2", f"mean_{BEST_OF}", "baseline (quoted)"]
    headings += ["arch1 %", "arch2 %", f"{BEST_OF} %"]
    notes = [
        "means over the targets; %: 100 (mean - baseline) / baseline.",
        "best_of takes each target's better architecture as it scored here, so it is no result of a system.",
    ]
    return Table("Spearman's correlation, average", headings, rows, 1, [*notes, *_notes(made)])


def _notes(made: Sequence[Pair]) -> list[str]:
    return [f"{pair.name}: {note}." for pair in made for note in pair.notes]


def _number(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:z.3f}"


def _percent(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:+z.1f}"
