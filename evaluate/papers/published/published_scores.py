"""The published number beside a result: which table has it, and whether the two may be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....train.records.metrics import metric_name
from ....train.records.published import mean_and_std
from ...scoring.scored import Evaluation, Scored
from .paper_results import layouts, summary_in


@dataclass(frozen=True)
class PublishedScore:
    """One cell of a paper's table that a result fills."""

    table: str  # such as "paper1/table2"
    row: str
    part: str  # of the test utterances, such as a culture; "" of all
    column: str
    metric: str  # `metric` or `metric.target`
    text: str  # as printed
    value: float
    ours: float  # mean over folds, as the papers have it
    why_not: str  # the reason why they are not to be compared; "" where they may be


def published_scores(evaluations: Sequence[Evaluation]) -> dict[int, list[PublishedScore]]:
    """Find the published numbers of the cells that results fill.

    Args:
        evaluations: the results.

    Returns:
        {the place of a result: its cells}; results of no paper's table are absent.
    """
    places = {id(evaluation): place for place, evaluation in enumerate(evaluations)}
    found: dict[int, list[PublishedScore]] = {}
    for layout in layouts(evaluations):
        if not layout.evaluations or layout.table.averages:
            continue
        for row, part in ((one, part) for one in layout.table.row for part in one.parts):
            for column, text in zip(layout.table.column, row.values(part), strict=True):
                metric = metric_name(column.metric, column.target or row.target)
                for evaluation in layout.of(row.ours, column) if text else ():
                    scored = _part(evaluation, part)
                    summary = summary_in(scored.metrics, row, column) if scored else None
                    if summary is None:
                        continue
                    why_not = "; ".join(filter(None, [layout.mark, *layout.reasons([evaluation])]))
                    own = (layout.name, row.label, part, column.label, metric, text, mean_and_std(text)[0])
                    score = PublishedScore(*own, summary.mean, why_not)
                    found.setdefault(places[id(evaluation)], []).append(score)
    return found


def published_text(evaluations: Sequence[Evaluation]) -> Callable[[Evaluation, str], str]:
    """Make the function that tells the published number of a result.

    Args:
        evaluations: all results.

    Returns:
        (result, metric) -> the number as printed, with its table, and ours as it is there; or why the two are not
        compared; "" where there is none.
    """
    found = published_scores(evaluations)
    places = {id(evaluation): place for place, evaluation in enumerate(evaluations)}

    def text(evaluation: Evaluation, metric: str) -> str:
        own = [cell for cell in found.get(places[id(evaluation)], ()) if cell.metric == metric]
        cell = next((cell for cell in own if not cell.why_not), next(iter(own), None))
        if cell is None:
            return ""
        told = f"not compared: {cell.why_not}" if cell.why_not else f"mean over folds {cell.ours:.3f}"
        return f"{cell.text} ({cell.table}), {told}"

    return text


def _part(evaluation: Evaluation, part: str) -> Scored | None:
    return evaluation if not part else next((own for own in evaluation.breakdown if own.value == part), None)
