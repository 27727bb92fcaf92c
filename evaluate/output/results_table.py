"""The one table of results: a row for each result and target, what all have in common told once below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

from ...cache import EmocacheError
from ...cache.hints import nearest
from ...train.records.metrics import METRICS, metric_name
from ..scoring.ranking.standings import blocks, is_sound, primary, rank_of
from ..scoring.sanity import DIAGNOSTIC
from ..scoring.scored import Evaluation
from ..scoring.statistics import Summary
from .cells import counted, interval, mean_std, number, setting_apart
from .text_table import Table

SCORE, FOLDS = "score", "mean ± std over folds"
_WORD, _GAP = 24, 2
"""Columns that a cell of words is given before it is folded, but for an experiment's name; and a gap's."""
_BESIDE = ("streams", "folds x seeds", "coverage", "drawn from")
"""What is told of rows only where there is room: their names tell them apart."""


@dataclass
class Row:
    """A result, or a guess that needs no model, and one target.

    Attributes:
        words: {heading: cell} of what tells it apart. metric: its primary one. target: "" where there is one.
        scores: {metric: its numbers}. guess: it needs no model. block: of the rows to be compared with it.
        sound: it may be called the best. marks: see `Result.marks`.
    """

    words: dict[str, str]
    metric: str
    target: str
    scores: dict[str, Summary]
    guess: bool
    block: int
    sound: bool = False
    marks: list[str] = field(default_factory=list)

    def value(self, heading: str) -> float:
        """Return what a column of numbers sorts by; NaN where it has no number of this row."""
        name = self.metric if heading in (SCORE, FOLDS) else heading
        found = self.scores.get(name)
        return math.nan if found is None else found.mean if heading == FOLDS else found.pooled

    def cell(self, heading: str) -> str:
        """Return the text of a column."""
        if heading in self.words:
            return self.words[heading]
        found = self.scores.get(self.metric if heading in (SCORE, FOLDS) else heading)
        if found is None:
            return ""
        return mean_std(found) if heading == FOLDS else number(found.pooled)


_INTERVAL = "95 % interval"


def results_table(evaluations: Sequence[Evaluation], width: int, sort: str | None = None) -> Table:
    """Make the table of all results.

    Args:
        evaluations: the results.
        width: of the screen, which decides how many further metrics are shown.
        sort: the column to sort by; None: the primary metric, among the rows that can be compared.

    Returns:
        The table; its notes are the legend.

    Raises:
        EmocacheError: there is no such column.
    """
    rows = [row for number, block in enumerate(blocks(evaluations)) for row in _rows(block, number)]
    if not rows:
        return Table("", ["experiment"], [], 1, [])
    words = list(rows[0].words)
    metrics = [name for name in METRICS if any(name in row.scores for row in rows)]
    rows = _sorted(rows, sort, [*words, SCORE, FOLDS, *metrics])
    marks = _number_marks(rows)
    # What is the same everywhere is told once, in the legend. Guesses have a name only, and the targets of results.
    same = {h: cells.pop() for h in words if len(cells := {r.words[h] for r in rows if not r.guess}) == 1}
    told = [h for h in words if h not in same or h == "experiment"]
    further = [m for m in metrics if any(m != r.metric and m in r.scores for r in rows if not r.guess)]
    further.sort(key=lambda metric: metric != sort)  # what is sorted by is shown first
    headings, left_out = _fitting(rows, told, further, width)
    numbers = sum(h in told for h in headings)
    block_starts = [i for i in range(1, len(rows)) if not sort and rows[i].block != rows[i - 1].block]
    best = {row.block: i for i, row in reversed(list(enumerate(rows))) if row.sound}
    notes = _legend(evaluations, rows, same, marks, left_out)
    texts = [[_cell(row, heading) for heading in headings] for row in rows]
    titles = {name: metric.title for name, metric in METRICS.items()} | {SCORE: same.get("metric", SCORE)}
    shown = [titles.get(h, h) for h in headings]
    faint = tuple(i for i, row in enumerate(rows) if row.guess)
    strong = () if sort else tuple(best.values())
    return Table("Results", shown, texts, numbers, notes, tuple(block_starts), strong, faint)


def _rows(block: Sequence[Evaluation], number: int) -> list[Row]:
    rows: list[Row] = []
    for k, (metric, target) in enumerate(primary(block)):
        guesses: dict[str, Row] = {}
        for e in block:
            words = _words(e, metric, target)
            place = 1000 * number + k
            row = Row(words, metric, target, _scores(e.metrics, target), False, place, is_sound(e), e.result.marks)
            rows.append(row)
            for name, summaries in e.sanity.items():
                # A diagnostic sees true labels: --full shows it, here it would stand as the best.
                if metric_name(metric, target) in summaries and name not in DIAGNOSTIC:
                    blank = {h: cell if h in ("corpus", "target", "metric") else "" for h, cell in words.items()}
                    named = {**blank, "experiment": name}
                    row = Row(named, metric, target, _scores(summaries, target), True, place)
                    guesses.setdefault(name, row)
        rows += guesses.values()
    return rows


def _words(e: Evaluation, metric: str, target: str) -> dict[str, str]:
    record = e.result.first
    return {
        "experiment": record.experiment,
        "corpus": e.result.corpus,
        "target": target or "+".join(record.targets),
        "streams": e.result.streams_told,
        "setting": setting_apart(e.result),
        "metric": METRICS[metric].title,
        "protocol": f"{record.protocol.name} ({counted(record.folds, 'fold')})",
        "folds x seeds": f"{len(e.result.folds)} x {len(e.result.seeds)}",
        "coverage": f"{e.result.coverage.predicted}/{e.result.coverage.test}",
        "drawn from": counted(e.groups, e.unit),
    }


def _scores(metrics: dict[str, Summary], target: str) -> dict[str, Summary]:
    return {name: metrics[full] for name in METRICS if (full := metric_name(name, target)) in metrics}


def _sorted(rows: Sequence[Row], sort: str | None, known: Sequence[str]) -> list[Row]:
    if sort is None:
        return sorted(rows, key=lambda row: (row.block, row.guess, rank_of(row.metric, row.value(SCORE))))
    if sort not in known:
        near = nearest(sort, known)
        raise EmocacheError(f"--sort {sort!r}: no such column; {f'did you mean {near!r}? ' if near else ''}there are"
                            f" {', '.join(known)}")  # fmt: skip
    if sort in rows[0].words:
        return sorted(rows, key=lambda row: (row.words[sort] == "", row.words[sort]))
    return sorted(rows, key=lambda row: rank_of(row.metric if sort in (SCORE, FOLDS) else sort, row.value(sort)))


def _number_marks(rows: Sequence[Row]) -> dict[str, int]:
    """Number the marks that some results have and others not, and write the numbers beside the experiments' names."""
    own = [row for row in rows if not row.guess]
    every = [mark for mark in own[0].marks if all(mark in row.marks for row in own)]
    found = dict.fromkeys(mark for row in own for mark in row.marks if mark not in every)
    numbers = {**dict.fromkeys(every, 0), **{mark: i for i, mark in enumerate(found, 1)}}
    for row in own:
        if told := [str(numbers[mark]) for mark in row.marks if numbers[mark]]:
            row.words = {**row.words, "experiment": f"{row.words['experiment']} [{','.join(told)}]"}
    return numbers


def _fitting(
    rows: Sequence[Row], words: Sequence[str], metrics: Sequence[str], width: int
) -> tuple[list[str], list[str]]:
    """Choose the columns: what tells rows apart and the score always, of the others those that there is room for."""
    apart = len({(row.words["experiment"], row.words["setting"], row.block) for row in rows}) == len(rows)
    always = [h for h in words if h not in _BESIDE or (h == "streams" and not apart)]
    folds = [FOLDS] if any(not math.isnan(s.std) for row in rows for s in row.scores.values()) else []
    maybe = [*folds, *metrics, *(h for h in words if h not in always)]
    room = width - sum(_least(rows, h, width) + _GAP for h in (*always, SCORE, _INTERVAL)) + _GAP
    chosen = []
    for heading in maybe:
        room -= _least(rows, heading, width) + _GAP
        if room < 0:
            break
        chosen.append(heading)
    shown = [*always, *(h for h in chosen if h in words), SCORE, _INTERVAL, *(h for h in chosen if h not in words)]
    return shown, maybe[len(chosen) :]


def _least(rows: Sequence[Row], heading: str, width: int) -> int:
    """Return the columns that a heading and its cells need at least: words may break, numbers may not."""
    cells = max(cell_len(_cell(row, heading)) for row in rows)
    if heading in rows[0].words:
        return min(max(cells, len(heading)), width // 3 if heading == "experiment" else _WORD)
    title = METRICS[heading].title if heading in METRICS else heading
    return max(cells, *map(len, title.replace("_", " ").split()))


def _cell(row: Row, heading: str) -> str:
    if heading == _INTERVAL:
        found = row.scores.get(row.metric)
        return "" if found is None else interval(found.ci95)
    return row.cell(heading)


def _legend(
    evaluations: Sequence[Evaluation],
    rows: Sequence[Row],
    same: dict[str, str],
    marks: dict[str, int],
    left_out: Sequence[str],
) -> list[str]:
    told = [f"{heading} {cell}" for heading, cell in same.items() if cell and heading not in ("experiment", "metric")]
    told += [mark for mark, number in marks.items() if not number]
    units = dict.fromkeys(f"{e.unit}s" for e in evaluations)
    few = "; approximate below 20 of them" if any(e.approximate for e in evaluations) else ""
    notes = [f"All results: {'; '.join(told)}."] if told else []
    notes.append(
        f"{same.get('metric', SCORE)}: pooled over folds, mean over seeds; interval: bootstrap over"
        f" {' or '.join(units)}{few}."
    )
    if numbered := [f"[{number}] {mark}" for mark, number in marks.items() if number]:
        notes.append(f"{'; '.join(numbered)}.")
    if left_out:
        notes.append(f"--full, or a wider terminal, also shows: {', '.join(left_out)}.")
    return notes
