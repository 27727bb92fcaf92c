"""The number that a paper published of a result, where the two may be compared."""

from collections.abc import Callable, Sequence

from ..scoring.scored import Evaluation
from .paper_results import layouts


def find_published(evaluations: Sequence[Evaluation]) -> Callable[[Evaluation, str, str], str]:
    """Make the function that finds published numbers.

    Args:
        evaluations: all results.

    Returns:
        (result, metric, target) -> the number as printed, with its table; "" where there is none, or where a paper's
        table would take no difference either.
    """
    found: dict[tuple[int, str, str], str] = {}
    for layout in layouts(evaluations):
        if not layout.evaluations or layout.mark or not layout.same_corpus:
            continue
        for row in layout.table.row:
            for column, value in zip(layout.table.column, row.values("") if row.parts == [""] else (), strict=False):
                for one in layout.of(row.ours, column):
                    if value and not layout.reasons([one]):
                        key = (id(one), column.metric, column.target or row.target)
                        found.setdefault(key, f"{value} ({layout.name})")
    return lambda evaluation, metric, target: found.get((id(evaluation), metric, target), "")
