"""The emotion share paper's tables and CSV, made of its pairs of architectures, and its report as a whole."""

import csv
import io
import math
from collections.abc import Sequence

from ..output.cells import UNDEFINED, number
from ..output.text_table import Table
from . import PaperReport
from .emotion_share import BASELINE, BEST_OF, Pair, pairs, relative_change
from .share_bars import save_share_bars


def emotion_share_tables(made: Sequence[Pair]) -> list[Table]:
    """Make a table of each target's correlations, and one of averages and their changes against the baseline."""
    return [_by_target(block) for block in _blocks(made)] + [_averages(made)] if made else []


def emotion_share_csv(made: Sequence[Pair]) -> str:
    """Write a line for every pair and target, and one for its averages, with full precision; undefined is empty."""
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
            cells = ["" if math.isnan(value) else repr(value) for value in numbers]
            writer.writerow([pair.name, target, *cells, "; ".join(pair.notes)])
    return out.getvalue()


def _blocks(made: Sequence[Pair]) -> list[list[Pair]]:
    """Put pairs of the same targets together."""
    blocks: dict[tuple[str, ...], list[Pair]] = {}
    for pair in made:
        blocks.setdefault(tuple(pair.targets), []).append(pair)
    return list(blocks.values())


def _by_target(block: Sequence[Pair]) -> Table:
    targets = block[0].targets
    rows = [
        [pair.name, architecture, *(number(values[target]) for target in targets)]
        for pair in block
        for architecture, values in (("1", pair.arch1), ("2", pair.arch2))
        if values
    ]
    rows.append(["baseline (quoted)", "", *(number(BASELINE.get(target, math.nan)) for target in targets)])
    return Table("Spearman's correlation by target", ["experiment", "architecture", *targets], rows, 2, _notes(block))


def _averages(made: Sequence[Pair]) -> Table:
    rows = []
    for pair in made:
        averages = pair.averages.values()
        changes = (relative_change(average, pair.baseline) for average in averages)
        rows.append([pair.name, *map(number, averages), number(pair.baseline), *map(_percent, changes)])
    headings = ["experiment", "mean_arch1", "mean_arch2", f"mean_{BEST_OF}", "baseline (quoted)"]
    headings += ["arch1 %", "arch2 %", f"{BEST_OF} %"]
    notes = [
        "means over the targets; %: 100 (mean - baseline) / baseline.",
        "best_of takes each target's better architecture as it scored here, so it is no result of a system.",
    ]
    return Table("Spearman's correlation, average", headings, rows, 1, [*notes, *_notes(made)])


def _notes(made: Sequence[Pair]) -> list[str]:
    return [f"{pair.name}: {note}." for pair in made for note in pair.notes]


def _percent(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:+z.1f}"


REPORT = PaperReport(
    tables=lambda evaluations: emotion_share_tables(pairs(evaluations)),
    texts=lambda evaluations: {"emotion-share.csv": emotion_share_csv(made)} if (made := pairs(evaluations)) else {},
    figures=(save_share_bars,),
)
