"""The papers' tables with our numbers: ours, the faithful variant's, the published ones, and what sets them apart."""

import math
from collections.abc import Iterator, Mapping, Sequence

from ....cache import EmocacheError
from ....cache.hints import did_you_mean
from ....train.records.published import Column, PublishedRow, mean_and_std
from ...output.paper_table import Cell, Line, PaperTable
from ...scoring.scored import Evaluation, Scored
from ...scoring.statistics import Summary
from ..emotion_share import BEST_OF, pairs, relative_change
from .paper_results import Layout, layouts, summary_in

OURS, FAITHFUL, PUBLISHED, DIFFERENCE = "ours", "faithful", "published", "ours - published"
_STATISTIC = "ours: mean ± std over folds, of the mean over seeds [95 % bootstrap interval of the pooled score]."


def tables_with_runs(evaluations: Sequence[Evaluation]) -> list[PaperTable]:
    """Lay out every table of a paper that some result belongs to.

    Args:
        evaluations: the results.

    Returns:
        The tables, in the order of papers; those of variants and other corpora follow the one they are of.
    """
    return [lay_out(layout) for layout in layouts(evaluations) if layout.evaluations]


def check_table(name: str) -> None:
    """Refuse a table that no paper has; those of other corpora, `TABLE-CORPUS`, are known with their results only."""
    known = [layout.name for layout in layouts([])]
    if name not in known and not any(name.startswith(f"{one}-") for one in known):
        raise EmocacheError(f"--table {name!r}: {_no_table(name)}")


def _no_table(name: str) -> str:
    known = [layout.name for layout in layouts([]) if layout.variant is None and not layout.corpus]
    return f"no such table; {did_you_mean(name, known)}there are {', '.join(known)}"


def wanted_tables(evaluations: Sequence[Evaluation], name: str) -> list[PaperTable]:
    """Lay out one table of a paper, and beside it those of variants and other corpora that have results.

    Args:
        evaluations: the results.
        name: such as "paper1/table2", or "paper1/table2-avec" for one of these alone.

    Returns:
        The tables; the one named is there without results too.

    Raises:
        EmocacheError: no table of that name.
    """
    found = list(layouts(evaluations))
    if name not in {layout.name for layout in found}:
        raise EmocacheError(f"--table {name!r}: {_no_table(name)}")
    beside = [layout for layout in found if layout.name.startswith(f"{name}-") and layout.evaluations]
    return [lay_out(layout) for layout in found if layout.name == name or layout in beside]


def lay_out(layout: Layout) -> PaperTable:
    """Lay out a table: its lines row by row, with everything that must be told of them."""
    table, columns = layout.table, layout.columns
    lines: list[Line] = []
    notes = [_STATISTIC, *([f"{table.note}."] if table.note else [])]
    if layout.mark:
        notes.insert(0, f"Not comparable with the paper: {layout.mark}.")
    told: dict[str, dict[str, None]] = {}  # {sentence: the rows that it is true of}
    missing: list[str] = []
    for row in table.row:
        ours = list({id(e): e for column in columns for e in layout.of(row.ours, column)}.values())
        reasons = layout.reasons(ours)
        for part in _parts(layout, row):
            lines += _lines(layout, row, part, compare=not (layout.mark or reasons))
        for sentence in _told_of_row(layout, row, ours, reasons):
            told.setdefault(sentence, {})[row.label] = None
        missing += _not_run(layout, row)
    for sentence, rows in (told | _deviations(layout)).items():
        everywhere = len(rows) == len({row.label for row in table.row})
        notes.append(sentence if everywhere else f"{', '.join(rows)}: {sentence}")
    notes += missing
    whose = layout.paper.folder or f"Paper {layout.paper.paper}"
    title = f"{whose}, {table.called}: {table.title}" + (f" ({layout.mark})" if layout.mark else "")
    headings = [_heading(layout, column) for column in columns]
    return PaperTable(layout.name, title, table.part, headings, lines, list(dict.fromkeys(notes)), layout.mark)


def _heading(layout: Layout, column: Column) -> str:
    # On another corpus a column of one of the paper's corpora shows that other one.
    return column.label if layout.corpus and column.corpus else f"{column.under} {column.label}".strip()


def _parts(layout: Layout, row: PublishedRow) -> list[str]:
    """The row's parts as published; of a variant, those with results; of another corpus, the parts that it has."""
    there = dict.fromkeys(p.value for e in layout.evaluations for p in e.breakdown if p.column == layout.table.part)
    if layout.same_corpus and not (layout.variant and there):
        return row.parts
    own = [part for part in row.parts if part in there] if layout.same_corpus else list(there)
    return own or [""]


def _lines(layout: Layout, row: PublishedRow, part: str, compare: bool) -> list[Line]:
    ours = _averages(layout, row) if layout.table.averages else _of_results(layout, row, row.ours, part, OURS)
    if row.guess:
        ours = [Line(row.label, part, OURS, [_guess(layout, row, column, part) for column in layout.columns])]
    lines = ours + _of_results(layout, row, row.faithful, part, FAITHFUL)
    if not layout.same_corpus:
        return lines
    values = dict(zip(layout.table.column, row.values(part), strict=True))
    published = [_printed(values[column]) for column in layout.columns]
    run = any(cell.experiment and not cell.command for line in ours for cell in line.cells)
    lines.append(Line(row.label, part, PUBLISHED + (" (not comparable)" if run and not compare else ""), published))
    if run and compare and len(ours) == 1 and not row.guess:
        pairs_of = zip(ours[0].cells, published, strict=True)
        lines.append(Line(row.label, part, DIFFERENCE, [_difference(own, theirs) for own, theirs in pairs_of]))
    return lines


def _of_results(layout: Layout, row: PublishedRow, pattern: str, part: str, whose: str) -> list[Line]:
    """A line for each setting that has results; one of empty cells where there are none but could be."""
    found = {column: layout.of(pattern, column) for column in layout.columns}
    commands = layout.commands(pattern)
    told = list(dict.fromkeys(_setting(layout, e, column) for column, own in found.items() for e in own))
    if not told and not commands:
        return []
    lines = []
    for setting in told or [""]:
        cells = []
        for column, own in found.items():
            fitting = [e for e in own if _setting(layout, e, column) == setting]
            cells.append(_cell(fitting[0], row, column, part) if fitting else _empty(layout, pattern, column, commands))
        lines.append(Line(row.label, part, f"{whose} ({setting})" if setting else whose, cells))
    return lines


def _setting(layout: Layout, evaluation: Evaluation, column: Column) -> str:
    """Tell what sets a result apart from others that could fill the same cell."""
    corpora = {e.result.corpus for e in layout.evaluations}
    corpus = evaluation.result.corpus if len(corpora) > 1 and not column.corpus else ""
    return " ".join(filter(None, [corpus, evaluation.result.difference]))


def _empty(layout: Layout, pattern: str, column: Column, commands: Mapping[str, str]) -> Cell:
    command = commands.get(layout.corpus_of(column), "")
    name = next((name for name in layout.experiments(pattern, column) if name in command.split()), "")
    return Cell(experiment=name, command=command if name else "")


def _cell(evaluation: Evaluation, row: PublishedRow, column: Column, part: str) -> Cell:
    scored = _part_of(evaluation, part)
    summary = summary_in(scored.metrics, row, column) if scored else None
    return _from_summary(summary, evaluation.result.first.experiment)


def _part_of(evaluation: Evaluation, part: str) -> Scored | None:
    return evaluation if not part else next((p for p in evaluation.breakdown if p.value == part), None)


def _from_summary(summary: Summary | None, name: str) -> Cell:
    return Cell() if summary is None else Cell(summary.mean, summary.std, summary.ci95, experiment=name)


def _guess(layout: Layout, row: PublishedRow, column: Column, part: str) -> Cell:
    """Return what needs no model: the same beside every result of the table, so the first one's is taken."""
    scored = _part_of(layout.evaluations[0], part) if layout.evaluations else None
    metrics = scored.sanity.get(row.guess, {}) if scored else {}
    return _from_summary(summary_in(metrics, row, column), row.guess)


def _averages(layout: Layout, row: PublishedRow) -> list[Line]:
    """A line for each architecture of each result, and one for the better of both, which is picked on the test part."""
    own = list({id(e): e for column in layout.columns for e in layout.of(row.ours, column)}.values())
    lines = []
    for pair in pairs(own):
        for name, average in zip(("Architecture 1", "Architecture 2", BEST_OF), pair.averages.values(), strict=True):
            numbers = {"average": average, "baseline": pair.baseline, "change": relative_change(average, pair.baseline)}
            if not math.isnan(average):
                cells = [
                    Cell(numbers[c.metric], experiment=pair.name, digits=1 if c.metric == "change" else 3)
                    for c in layout.columns
                ]
                lines.append(Line(row.label, "", f"{OURS}, {name}", cells))
    return lines or _of_results(layout, row, row.ours, "", OURS)


def _printed(value: str) -> Cell:
    if not value:
        return Cell()
    mean, std = mean_and_std(value)
    return Cell(mean, std, text=value)


def _difference(ours: Cell, published: Cell) -> Cell:
    if not ours.experiment or ours.command or not published.text:
        return Cell()
    return Cell(ours.value - published.value, experiment=ours.experiment, signed=True)


def _told_of_row(
    layout: Layout, row: PublishedRow, ours: Sequence[Evaluation], reasons: Sequence[str]
) -> Iterator[str]:
    faithful = [e for column in layout.columns for e in layout.of(row.faithful, column)]
    if reasons:
        yield f"not compared with the paper: {'; '.join(reasons)}."
    if (why := layout.reasons(faithful)) and why != reasons:
        yield f"{FAITHFUL}, not compared with the paper: {'; '.join(why)}."
    if row.note and layout.same_corpus:
        yield f"{row.note}."
    for whose, results in (("", ours), (f"{FAITHFUL}: ", faithful)):
        if marks := dict.fromkeys(mark for e in results for mark in e.result.marks):
            yield f"{whose}marked {', '.join(marks)}."


def _not_run(layout: Layout, row: PublishedRow) -> Iterator[str]:
    for whose, pattern in ((OURS, row.ours), (FAITHFUL, row.faithful)):
        if commands := layout.commands(pattern):
            yield f"not run, {row.label} ({whose}): {'; '.join(f'`{one}`' for one in commands.values())}"


def _deviations(layout: Layout) -> dict[str, dict[str, None]]:
    """In what the experiments differ from the paper: {sentence: the rows it belongs to}."""
    systems = layout.systems()
    rows: dict[str, dict[str, None]] = {}
    for row in layout.table.row:
        shown = {row.system: row.label} if row.system else {c.system: row.label for c in layout.columns}
        for name, label in shown.items():
            for sentence in systems[name].deviations if name in systems else ():
                rows.setdefault(sentence, {})[label] = None
    return rows
