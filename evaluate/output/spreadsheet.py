"""The numbers as CSV, with full precision."""

import csv
import io
import math
from collections.abc import Sequence

from ..scoring.sanity import DIAGNOSTIC
from ..scoring.scored import Evaluation, Part, Scored
from .cells import told_of

_IDENTITY = ["experiment", "corpus", "streams", "protocol", "setting", "difference", "marks", "selection"]
_COUNTS = ["folds", "seeds", "predicted", "test", "n_groups", "approximate"]
_NUMBERS = ["mean", "std", "std_ddof1", "std_seeds", "pooled", "ci95_low", "ci95_high"]


def to_csv(evaluations: Sequence[Evaluation]) -> str:
    """Write a line for every metric of every result, its parts and what needs no model; undefined numbers are empty.

    `part` is empty for the whole test part, or names the culture or corpus, as in `culture=C2`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_IDENTITY, *_COUNTS, "part", "row", "metric", *_NUMBERS, "remarks"])
    for evaluation in evaluations:
        for scored in (evaluation, *evaluation.breakdown):
            writer.writerows(_lines(evaluation, scored))
    return out.getvalue()


def _lines(evaluation: Evaluation, scored: Scored) -> list[list[object]]:
    result, record, coverage = evaluation.result, evaluation.result.first, evaluation.result.coverage
    identity = [record.experiment, result.corpus, "+".join(result.streams), record.protocol.name, record.setting]
    counts, part = (coverage.predicted, coverage.test), ""
    if isinstance(scored, Part):
        counts, part = (scored.predicted, scored.utterances), f"{scored.column}={scored.value}"
    lines = []
    for row, metrics in [("result", scored.metrics), *scored.sanity.items()]:
        marks = [*result.marks, *(["diagnostic"] if row in DIAGNOSTIC else [])]
        about = [*identity, result.difference, "; ".join(marks), result.selection]
        size = [record.folds, len(result.seeds), *counts, scored.groups, scored.approximate]
        for name, s in metrics.items():
            numbers = [s.mean, s.std, s.std_ddof1, s.std_seeds, s.pooled, *s.ci95]
            cells = ["" if math.isnan(number) else repr(number) for number in numbers]
            lines.append([*about, *size, part, row, name, *cells, told_of(s)])
    return lines
