"""The tables of results and comparisons, for people: a terminal and Markdown show them."""

from collections.abc import Callable, Mapping, Sequence

from ...train.records.metrics import METRICS, metric_name
from ..scoring.ranking.comparison import Comparison
from ..scoring.ranking.standings import blocks
from ..scoring.sanity import DIAGNOSTIC
from ..scoring.scored import BREAKDOWN, Evaluation, Part, Scored
from ..scoring.statistics import Summary
from .cells import (
    counted,
    interval,
    marked_experiment,
    mean_std,
    number,
    p_value,
    pooled_interval,
    result_name,
    setting_apart,
    told_of,
)
from .text_table import Table


def result_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Make the tables of every corpus, split and task: scores over folds, and pooled scores with their intervals.

    Where the test part has several corpora or cultures, also the pooled scores of each.
    """
    tables = []
    for block in blocks(evaluations):
        tables += [_over_folds(block), _pooled(block)]
        tables += [_broken_down(block, column) for column in BREAKDOWN if _parts(block, column)]
    return tables


def comparison_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """Make a table of every comparison, with a row for every metric."""
    return [_comparison(comparison) for comparison in comparisons]


def _over_folds(block: Sequence[Evaluation]) -> Table:
    extra = {
        "folds x seeds": [f"{len(e.result.folds)} x {len(e.result.seeds)}" for e in block],
        "coverage": [f"{e.result.coverage.predicted}/{e.result.coverage.test}" for e in block],
    }
    notes = ["mean ± std over folds, of the mean over seeds. coverage: test utterances that had features."]
    if any(name in DIAGNOSTIC for e in block for name in e.sanity):
        notes.append("[diagnostic]: sees true labels of the test part, and is no prediction.")
    if second := {e.result.first.auxiliary: None for e in block if e.result.first.auxiliary}:
        notes.append(f"auxiliary: {', '.join(map(str, second))}, where it is known.")
    for e in block:
        name = result_name(e.result)
        if e.result.selection:
            notes.append(f"{name}: {e.result.selection}.")
        if enrolled := e.result.coverage.enrolled:
            notes.append(f"{name}: {counted(enrolled, 'utterance')} more of the speakers tested enrol them, and are not"
                         " scored.")  # fmt: skip
        if e.result.missing_runs:
            absent = ", ".join(f"fold {fold} seed {seed}" for fold, seed in e.result.missing_runs)
            notes.append(f"{name}: no run of {absent}.")
    notes += _warned(block)
    notes += _told([(result_name(e.result), e.metrics) for e in block])
    return _table([(e, e) for e in block], _title(block), extra, mean_std, notes)


def _warned(block: Sequence[Evaluation]) -> list[str]:
    """Tell what training warned of, each thing once, with the results and how many of their runs it is true of."""
    whose: dict[tuple[str, str], list[str]] = {}
    for e in block:
        for warning, count in e.result.warnings.items():
            some = "" if count == len(e.result.runs) else f" in {count} of {len(e.result.runs)} runs"
            whose.setdefault(warning, []).append(f"{result_name(e.result)}{some}")
    return [f"{'; '.join(names)}: {kind}: {text}." for (kind, text), names in whose.items()]


def _pooled(block: Sequence[Evaluation]) -> Table:
    drawn: dict[str, list[str]] = {}
    for e in block:
        few = "; approximate, as there are fewer than 20" if e.approximate else ""
        drawn.setdefault(f"{counted(e.groups, e.unit)}{few}", []).append(result_name(e.result))
    notes = []
    for groups, names in drawn.items():
        whose = f"{'; '.join(names)}: " if len(drawn) > 1 else ""
        notes.append(f"{whose}pooled over folds, mean over seeds [95 % bootstrap interval over {groups}].")
    return _table([(e, e) for e in block], f"{_title(block)}: pooled", {}, pooled_interval, notes)


def _broken_down(block: Sequence[Evaluation], column: str) -> Table:
    parts = _parts(block, column)
    extra = {
        "coverage": [f"{part.predicted}/{part.utterances}" for _, part in parts],
        "groups": [counted(part.groups, part.unit) for _, part in parts],
    }
    notes = ["pooled over folds, mean over seeds [95 % bootstrap interval over groups; approximate if fewer than 20]."]
    notes += _told([(f"{result_name(e.result)}, {part.value}", part.metrics) for e, part in parts])
    return _table(parts, f"{_title(block)}: by {column}", extra, pooled_interval, notes, column)


def _told(lines: Sequence[tuple[str, Mapping[str, Summary]]]) -> list[str]:
    """Tell what there is to say of the metrics of some lines, each thing once, with all that it is true of."""
    # Twice turned over: first the metrics of a line that have the same remark, then the lines of which that is true.
    by_line: dict[tuple[str, str], list[str]] = {}
    for name, metrics in lines:
        for metric, summary in metrics.items():
            if told := told_of(summary, _OBVIOUS):
                by_line.setdefault((name, told), []).append(metric)
    alike: dict[tuple[str, str], list[str]] = {}
    for (name, told), metrics_of in by_line.items():
        alike.setdefault((", ".join(metrics_of), told), []).append(name)
    return [f"{'; '.join(names)}: {metrics_of}: {told}." for (metrics_of, told), names in alike.items()]


def _parts(block: Sequence[Evaluation], column: str) -> list[tuple[Evaluation, Part]]:
    return [(e, part) for e in block for part in e.breakdown if part.column == column]


def _table(
    lines: Sequence[tuple[Evaluation, Scored]],
    title: str,
    extra: dict[str, list[str]],
    show: Callable[[Summary], str],
    notes: list[str],
    column: str = "",
) -> Table:
    """Make a table with a row for every line and target, and one for every baseline that needs no model.

    Args:
        lines: results, or parts of them, with the result that each belongs to.
        title: the table's.
        extra: {heading: a cell for each line}, which stand before the metrics.
        show: makes the cell of a metric.
        notes: the table's.
        column: "corpus" or "culture", by which parts are told apart; "" of whole results.

    Returns:
        The table; a column of settings or targets only where there are some, and a baseline once for all results.
    """
    first = lines[0][0].result
    settings = any(setting_apart(e.result) for e, _ in lines)
    known = {name for _, scored in lines for name in scored.metrics}
    named = first.targets != [""]
    # Metrics over all targets together, such as those of a distribution, have a line of their own, "all".
    targets = [*first.targets, *([""] if named and known & set(METRICS) else [])]
    metrics = [name for name in METRICS if known & {metric_name(name, target) for target in targets}]
    rows = []
    baselines: dict[tuple[str, ...], None] = {}  # as keys, since results on the same test part share their baselines
    for i, (e, scored) in enumerate(lines):
        label = [marked_experiment(e.result), e.result.streams_told]
        label += [setting_apart(e.result)] if settings else []
        part = [scored.value] if isinstance(scored, Part) else []
        for target in targets:
            place = [*part, *([target or "all"] if named else [])]
            names = [metric_name(metric, target) for metric in metrics]
            rows.append([*label, *place, *(cells[i] for cells in extra.values()), *_cells(scored.metrics, names, show)])
            for sanity, summaries in scored.sanity.items():
                blank = [""] * (len(label) - 1)
                mark = " [diagnostic]" if sanity in DIAGNOSTIC else ""
                if any(name in summaries for name in names):
                    cells = [*([""] * len(extra)), *_cells(summaries, names, show)]
                    baselines[sanity + mark, *blank, *place, *cells] = None
    headings = ["experiment", "streams", *(["setting"] if settings else [])]
    headings += [*([column] if column else []), *(["target"] if named else [])]
    numbers = len(headings)
    headings += [*extra, *(METRICS[metric].title for metric in metrics)]
    return Table(title, headings, [*rows, *map(list, baselines)], numbers, notes)


def _cells(metrics: dict[str, Summary], names: Sequence[str], show: Callable[[Summary], str]) -> list[str]:
    return [show(metrics[name]) if name in metrics else "" for name in names]


def _comparison(comparison: Comparison) -> Table:
    few = "; approximate, as there are fewer than 20" if comparison.approximate else ""
    notes = [
        f"paired on {counted(comparison.utterances, 'utterance')}; 95 % bootstrap interval over"
        f" {counted(comparison.groups, comparison.unit)}{few}; Wilcoxon's test over folds; Holm's p is corrected"
        " for all tests made here."
    ]
    notes += _alike({name: told_of(d, ("wilcoxon",)) for name, d in comparison.metrics.items()})
    notes += _alike({name: f"left out: {why}" for name, why in comparison.left_out.items()})
    if tests := {d.reasons["wilcoxon"]: None for d in comparison.metrics.values() if "wilcoxon" in d.reasons}:
        notes.append(f"no Wilcoxon's test: {'; '.join(tests)}.")
    rows = []
    for name, d in comparison.metrics.items():
        change = [number(d.difference, sign=True), interval(d.ci95, sign=True)]
        rows.append([name, *change, p_value(d.wilcoxon), p_value(d.wilcoxon_holm)])
    a, b = (result_name(result, marks=True) for result in (comparison.a, comparison.b))
    title = f"{comparison.a.corpus}: {a} minus {b}"
    return Table(title, ["metric", "difference", "95 % interval", "Wilcoxon's p", "Holm's p"], rows, 1, notes)


def _alike(told: Mapping[str, str]) -> list[str]:
    """Tell each text once, with all the metrics that it is true of."""
    metrics: dict[str, list[str]] = {}
    for name, text in told.items():
        metrics.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}." for text, names in metrics.items() if text]


_OBVIOUS = ("std", "std_ddof1", "std_seeds")  # one fold or one seed: the table shows it


def _title(block: Sequence[Evaluation]) -> str:
    record = block[0].result.first
    folds = f"{record.protocol.name} ({counted(record.folds, 'fold')})"
    return f"{block[0].result.corpus}, {folds}, {', '.join(record.targets)}"
