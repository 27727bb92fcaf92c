"""The score against the number of unlabelled clips that enrol a speaker, of results that differ in nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...train.records.metrics import METRICS, base_name, metric_name
from ..output.cells import UNDEFINED, counted, pooled_interval
from ..output.figures.drawing import COLOURS, entitle, file_part, save
from ..output.figures.look import SCREEN, Look
from ..output.text_table import Table
from ..scoring.ranking.standings import primary
from ..scoring.result_groups import TEXTS, Result, flat_texts
from ..scoring.scored import Evaluation, Grid, score_grid
from ..scoring.statistics import Summary
from ..scoring.stored_predictions import read_predictions
from . import PaperReport

ALL = math.inf
"""The utterances of a speaker who gives the statistics by all of them, the scored ones too."""
_KNOWN = ("normalise", "enrolment", "enrolment_where")  # the settings that results of one curve differ in


@dataclass(frozen=True)
class Point:
    """One result: `clips` that enrol each speaker, 0 to `ALL`, of those that fit `where`; "" of any."""

    clips: float
    where: str
    evaluation: Evaluation
    common: dict[str, Summary] | None = None  # over the utterances that all results score; None of one with `where`

    @property
    def name(self) -> str:
        """The row of the table."""
        if self.clips in (0, ALL):
            return "all clips [transductive]" if self.clips else "no clip"
        return counted(int(self.clips), "clip") + (f" of {self.where}" if self.where else "")


def curves(evaluations: Sequence[Evaluation]) -> list[list[Point]]:
    """Put results together that differ only in what is known of a speaker, by the number of clips; two at least."""
    found: dict[object, list[Point]] = {}
    for evaluation in evaluations:
        config = flat_texts(evaluation.result.first.config)
        if any(key.startswith("features.") for key in config):  # a fusion has none of its own
            left_out = (*_KNOWN, *TEXTS)
            alike = frozenset((k, v) for k, v in config.items() if k.rpartition(".")[2] not in left_out)
            key = (evaluation.result.corpus, tuple(evaluation.result.streams), alike)
            found.setdefault(key, []).append(_point(evaluation, config))
    made = [sorted(points, key=lambda one: (one.where, one.clips)) for points in found.values() if len(points) > 1]
    return [_with_common(points) for points in made]


def _point(evaluation: Evaluation, config: dict[str, str]) -> Point:
    def told(setting: str) -> list[str]:
        return [v for k, v in config.items() if k.startswith("features.") and k.rpartition(".")[2] == setting]

    if "per_speaker" not in told("normalise"):
        return Point(0, "", evaluation)
    return Point(min(map(float, told("enrolment")), default=ALL), next(iter(told("enrolment_where")), ""), evaluation)


def _with_common(points: Sequence[Point]) -> list[Point]:
    """Score what all results score; those whose clips were chosen by a column stand aside."""
    grids: list[Grid] = [{} if one.where else _grid(one.evaluation.result) for one in points]
    known = [np.unique(np.concatenate([part.utterances for part in grid.values()])) for grid in grids if grid]
    common = reduce(np.intersect1d, known) if known else np.empty(0, np.str_)
    found = []
    for one, grid in zip(points, grids, strict=True):
        kept = {cell: part.keep(np.isin(part.utterances, common)) for cell, part in grid.items()}
        kept = {cell: part for cell, part in kept.items() if len(part.utterances)}
        found.append(replace(one, common=score_grid(kept)) if kept else one)
    return found


def _grid(result: Result) -> Grid:
    return {cell: read_predictions(run, result.classes) for cell, run in sorted(result.runs.items())}


def enrolment_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Make a table of each curve and target, with a row for each number of clips."""
    return [
        _table(points, metric_name(metric, target))
        for points in curves(evaluations)
        for metric, target in primary([one.evaluation for one in points])
    ]


def _table(points: Sequence[Point], name: str) -> Table:
    title = METRICS[base_name(name)].title
    rows = [
        [
            one.name,
            one.evaluation.result.first.experiment,
            str(one.evaluation.result.coverage.test),
            pooled_interval(one.evaluation.metrics[name]),
            UNDEFINED if one.common is None else pooled_interval(one.common[name]),
        ]
        for one in points
    ]
    notes = [
        "pooled over folds, mean over seeds [95 % bootstrap interval over groups]. Clips that enrol a speaker are not"
        " scored, so that the rows score different utterances; `same` is over those that all rows score, rows of chosen"
        " clips left out.",
        "Fair where a few unlabelled clips of a speaker are at hand. Speakers who say every class equally often, as"
        " actors do for a corpus, flatter it.",
    ]
    result = points[0].evaluation.result
    _, _, target = name.partition(".")
    about = ", ".join(filter(None, (result.corpus, "+".join(result.streams), target)))
    return Table(
        f"{about}: by clips that enrol a speaker",
        ["known of the speaker", "experiment", "scored", title, f"{title}, same"],
        rows,
        2,
        notes,
    )


def save_curves(out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN) -> list[Path]:
    """Draw each curve and target; returns the files' paths."""
    written = []
    for number, points in enumerate(curves(evaluations), 1):
        for metric, target in primary([one.evaluation for one in points]):
            name = metric_name(metric, target)
            parts = ["enrolment", file_part(points[0].evaluation.result.corpus), str(number)]
            parts += [file_part(target)] if target else []
            written += save(draw(points, name, look), out / "-".join(parts), look)
    return written


def draw(points: Sequence[Point], name: str, look: Look = SCREEN) -> Figure:
    """Draw the score with its interval at each number of clips: of what each result scores, and of what all do."""
    figure = Figure(figsize=look.size(5.0, 3.4), layout="constrained")
    axes = figure.add_subplot()
    known = sorted({(one.where, one.clips) for one in points})
    place = {key: at for at, key in enumerate(known)}
    for number, label in enumerate(("utterances that each scores", "utterances that all score")):
        drawn = []
        for one in points:
            summaries = one.common if number else one.evaluation.metrics
            if summaries is not None and not math.isnan(summaries[name].pooled):
                drawn.append((place[one.where, one.clips] + 0.12 * number - 0.06, summaries[name], one.where))
        for where in sorted({where for *_, where in drawn}):
            own = [(at, summary) for at, summary, chosen in drawn if chosen == where]
            at, values = [at for at, _ in own], np.array([summary.pooled for _, summary in own])
            ends = np.array([summary.ci95 for _, summary in own]).T
            bars = np.nan_to_num(np.abs(ends - values))
            style = {"color": COLOURS[number], "marker": "os"[number], "linestyle": "none" if where else "-"}
            axes.errorbar(at, values, bars, capsize=2, label=None if where else label, **style)  # type: ignore[arg-type]
    texts = [f"{'all' if clips == ALL else f'{clips:g}'}\n{where}".strip() for where, clips in known]
    axes.set_xticks(np.arange(len(known)), texts, fontsize=look.text, parse_math=False)
    axes.set_xlabel("unlabelled clips of the speaker (all: transductive)", fontsize=look.text)
    axes.set_ylabel(METRICS[base_name(name)].title, fontsize=look.text)
    figure.legend(loc="outside lower center", ncols=2, fontsize=look.text, frameon=False)
    result = points[0].evaluation.result
    entitle(figure, f"{result.corpus}, {'+'.join(result.streams)}, {name}: by clips that enrol a speaker", look)
    return figure


REPORT = PaperReport(tables=enrolment_tables, figures=(save_curves,))
