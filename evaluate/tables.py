"""Tables for people (terminal, Markdown) and for spreadsheets (CSV)."""

import csv
import io
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .comparison import Comparison, Difference
from .metrics import metrics_of
from .resampling import metric_name
from .results import Result
from .scoring import Evaluation
from .statistics import Interval, Summary

UNDEFINED = "–"


@dataclass(frozen=True)
class Table:
    """Text cells under headings; the columns from `numbers` on are aligned to the right."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    numbers: int
    notes: list[str]

    def text(self) -> str:
        """For a terminal, in columns of even width."""
        widths = [max(map(_width, column)) for column in zip(self.headings, *self.rows, strict=True)]
        lines = [self._line(row, widths) for row in (self.headings, ["─" * width for width in widths], *self.rows)]
        return "\n".join([self.title, "", *lines, *([""] if self.notes else []), *self.notes])

    def markdown(self) -> str:
        """As a Markdown section with one table."""
        rule = ["---" if i < self.numbers else "---:" for i in range(len(self.headings))]
        body = [[cell.replace("|", "\\|") for cell in row] for row in (self.headings, *self.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in (body[0], rule, *body[1:])]
        return "\n".join([f"## {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes)])

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(cell + space if i < self.numbers else space + cell)
        return "  ".join(cells).rstrip()


def result_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Two tables for every corpus, protocol and task: scores over folds, and pooled scores with their intervals."""
    blocks: dict[tuple[object, ...], list[Evaluation]] = {}
    for evaluation in evaluations:
        record = evaluation.result.first
        key = (evaluation.result.corpus, record.protocol.name, record.task, record.targets)
        blocks.setdefault(key, []).append(evaluation)
    return [table for block in blocks.values() for table in (_over_folds(block), _pooled(block))]


def comparison_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """One table for every comparison, a row for every metric."""
    return [_comparison(comparison) for comparison in comparisons]


def to_csv(evaluations: Sequence[Evaluation]) -> str:
    """One line for every result and sanity row and metric, with full precision; undefined numbers are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_CSV_IDENTITY, *_CSV_NUMBERS])
    for e in evaluations:
        result, record, coverage = e.result, e.result.first, e.result.coverage
        identity = [record.experiment, result.corpus, "+".join(result.streams), record.protocol.name, record.setting]
        identity += [result.difference, "; ".join(result.marks)]
        counts = [record.folds, len(result.seeds), coverage.predicted, coverage.test, e.groups, e.approximate]
        for row, metrics in [("result", e.metrics), *e.sanity.items()]:
            for name, s in metrics.items():
                numbers = [s.mean, s.std, s.std_ddof1, s.std_seeds, s.pooled, *s.ci95]
                cells = ["" if math.isnan(number) else repr(number) for number in numbers]
                writer.writerow([*identity, *counts, row, name, *cells, _told(s)])
    return out.getvalue()


_CSV_IDENTITY = [
    "experiment", "corpus", "streams", "protocol", "setting", "difference", "marks", "folds", "seeds", "predicted",
    "test", "n_groups", "approximate",
]  # fmt: skip
_CSV_NUMBERS = [
    "row", "metric", "mean", "std", "std_ddof1", "std_seeds", "pooled", "ci95_low", "ci95_high", "remarks",
]  # fmt: skip


def _over_folds(block: Sequence[Evaluation]) -> Table:
    extra = {
        "folds x seeds": [f"{len(e.result.folds)} x {len(e.result.seeds)}" for e in block],
        "coverage": [f"{e.result.coverage.predicted}/{e.result.coverage.test}" for e in block],
    }
    notes = ["mean ± std over folds, of the mean over seeds. coverage: test utterances that had features."]
    for e in block:
        name = _named(e.result)
        if e.result.missing_runs:
            absent = ", ".join(f"fold {fold} seed {seed}" for fold, seed in e.result.missing_runs)
            notes.append(f"{name}: no run of {absent}.")
        notes += [f"{name}, {metric}: {told}." for metric, s in e.metrics.items() if (told := _told(s, _OBVIOUS))]
    return _table(block, _title(block), extra, _mean_std, notes)


def _pooled(block: Sequence[Evaluation]) -> Table:
    notes: dict[str, None] = {}
    for e in block:
        few = "; approximate, as there are fewer than 20" if e.approximate else ""
        notes[f"pooled over folds, mean over seeds [95 % bootstrap interval over {e.groups} {e.unit}s{few}]."] = None
    return _table(block, f"{_title(block)}: pooled", {}, _pooled_interval, list(notes))


def _table(
    block: Sequence[Evaluation],
    title: str,
    extra: dict[str, list[str]],
    show: Callable[[Summary], str],
    notes: list[str],
) -> Table:
    first = block[0].result.first
    metrics = metrics_of(first.task)
    targets = [""] if first.task == "classification" else list(first.targets)
    settings = any(_setting(e.result) for e in block)
    named = targets != [""]
    rows = []
    baselines: dict[tuple[str, ...], None] = {}
    for i, e in enumerate(block):
        marks = f" [{', '.join(e.result.marks)}]" if e.result.marks else ""
        label = [e.result.first.experiment + marks, "+".join(e.result.streams)]
        label += [_setting(e.result)] if settings else []
        for target in targets:
            names = [metric_name(name, target) for name in metrics]
            scores = [show(e.metrics[name]) for name in names]
            rows.append([*label, *([target] if named else []), *(column[i] for column in extra.values()), *scores])
            for sanity, summaries in e.sanity.items():
                blank = [""] * (len(label) - 1)
                cells = [show(summaries[name]) for name in names]
                baselines[sanity, *blank, *([target] if named else []), *([""] * len(extra)), *cells] = None
    headings = ["experiment", "streams", *(["setting"] if settings else []), *(["target"] if named else [])]
    numbers = len(headings)
    headings += [*extra, *(metric.title for metric in metrics.values())]
    return Table(title, headings, [*rows, *map(list, baselines)], numbers, notes)


def _comparison(comparison: Comparison) -> Table:
    few = "; approximate, as there are fewer than 20" if comparison.approximate else ""
    notes = [
        f"paired on {comparison.utterances} utterances; 95 % bootstrap interval over {comparison.groups}"
        f" {comparison.unit}s{few}; Wilcoxon's test over folds, Holm-corrected for all tests made here."
    ]
    notes += [f"{name}: {told}." for name, d in comparison.metrics.items() if (told := _told(d, ("wilcoxon",)))]
    if tests := {d.reasons["wilcoxon"]: None for d in comparison.metrics.values() if "wilcoxon" in d.reasons}:
        notes.append(f"no Wilcoxon's test: {'; '.join(tests)}.")
    rows = [
        [name, _number(d.difference, sign=True), _interval(d.ci95, sign=True), _number(d.wilcoxon_holm)]
        for name, d in comparison.metrics.items()
    ]
    title = f"{comparison.a.corpus}: {_named(comparison.a)} minus {_named(comparison.b)}"
    return Table(title, ["metric", "difference", "95 % interval", "Wilcoxon p"], rows, 1, notes)


_OBVIOUS = ("std", "std_ddof1", "std_seeds")  # one fold or one seed: the table shows it


def _told(numbers: Summary | Difference, untold: Iterable[str] = ()) -> str:
    """What there is to say about a metric's numbers: why some are undefined, and what was done."""
    reasons: dict[str, list[str]] = {}
    for name, reason in numbers.reasons.items():
        if not any(name.startswith(part) for part in untold):
            reasons.setdefault(reason, []).append(name)
    return "; ".join([*(f"no {', '.join(names)}: {why}" for why, names in reasons.items()), *numbers.notes])


def _setting(result: Result) -> str:
    """What sets a result apart, less its streams, which every table shows anyway."""
    return " ".join(part for part in result.difference.split(" ") if not part.startswith("streams="))


def _named(result: Result) -> str:
    return f"{result.first.experiment} ({' '.join(filter(None, ('+'.join(result.streams), _setting(result))))})"


def _title(block: Sequence[Evaluation]) -> str:
    record = block[0].result.first
    return f"{block[0].result.corpus}, {record.protocol.name}, {', '.join(record.targets)}"


def _mean_std(summary: Summary) -> str:
    return _number(summary.mean) + ("" if math.isnan(summary.std) else f" ± {_number(summary.std)}")


def _pooled_interval(summary: Summary) -> str:
    return f"{_number(summary.pooled)} {_interval(summary.ci95)}".rstrip()


def _number(value: float, sign: bool = False) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:{'+' if sign else ''}z.3f}"


def _interval(ends: Interval, sign: bool = False) -> str:
    return "" if math.isnan(ends[0]) else f"[{_number(ends[0], sign)}, {_number(ends[1], sign)}]"


def _width(text: str) -> int:
    """Columns of a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))
