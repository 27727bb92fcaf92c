"""Expressions that choose utterances by their columns: `all`, or `column=value[|value]` terms joined by commas.

They mean the same wherever they are written: in `--fit-on` and in a transfer's `train_on` and `test_on`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .errors import EmocacheError
from .hints import did_you_mean

_LISTED = 20  # values that an error lists

Term = tuple[str, Mapping[str, Collection[str]]]
"""(column, {value as it is written: the values that it stands for})."""


def parse_expression(expression: str) -> list[tuple[str, set[str]]]:
    """Read what an expression asks for.

    Args:
        expression: `all`, or `column=value[|value]` terms joined by commas.

    Returns:
        (column, the values it may have) of every term; nothing for `all`.

    Raises:
        EmocacheError: a malformed term.
    """
    terms = []
    for term in [] if expression.strip() == "all" else expression.split(","):
        column, equals, values = term.partition("=")
        if not equals or not column.strip():
            raise EmocacheError(f"expression {expression!r}: {term!r} is not column=value[|value]; or say 'all'")
        terms.append((column.strip(), {value.strip() for value in values.split("|")}))
    return terms


def matches(written: str, cell: object) -> bool:
    """Tell whether a cell has the value that is written: a number in any spelling of it, a text as it stands.

    >>> matches("1", 1.0), matches("1e0", 1.0), matches("01", "01"), matches("1", "01")
    (True, True, True, False)
    """
    if isinstance(cell, float):
        try:
            return float(written) == cell
        except ValueError:
            return False
    return cell is not None and str(cell) == written


def chosen(
    terms: Sequence[Term], cells: Callable[[str], Sequence[Any]], whose: str, remedy: str = ""
) -> list[bool] | None:
    """Choose the rows that fit every term.

    Args:
        terms: what is asked for.
        cells: gives the cells of a column, by its name.
        whose: what errors call the rows, such as "utterance of corpus 'toy'".
        remedy: what else errors advise.

    Returns:
        one bool a row; None where there is no term, and so all are chosen.

    Raises:
        EmocacheError: a value that no row has, or terms that no row fits together.
    """
    kept: list[bool] | None = None
    for column, wanted in terms:
        held = [c if c is None or isinstance(c, str | float) else str(c) for c in cells(column)]
        there = set(held) - {None}
        found = {written: {c for c in there if any(matches(v, c) for v in vs)} for written, vs in wanted.items()}
        for written in (written for written, those in found.items() if not those):
            raise EmocacheError(_unknown(column, written, wanted[written], there, whose, remedy))
        every = set().union(*found.values())
        kept = [cell in every and (kept is None or kept[row]) for row, cell in enumerate(held)]
    if kept is not None and not any(kept):
        column, wanted = terms[0]
        values = " or ".join(map(repr, wanted))
        raise EmocacheError(f"no utterance with {column} {values} fits the other terms; leave it out, or correct them")
    return kept


def text_of(value: object) -> str | None:
    """A cell of a manifest as text; a number that is whole has no point. None stays None."""
    if value is None:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _unknown(
    column: str, written: str, values: Collection[str], there: Collection[Any], whose: str, remedy: str
) -> str:
    numbers = sorted(cell for cell in there if not isinstance(cell, str))
    texts = sorted(cell for cell in there if isinstance(cell, str))
    listed = [str(text_of(cell)) for cell in (*numbers, *texts)]
    told = ", ".join(listed[:_LISTED]) + (f", ... ({len(listed)} in all)" if len(listed) > _LISTED else "") or "none"
    meant = f" ({' or '.join(sorted(values))})" if set(values) != {written} else ""
    near = did_you_mean(written, listed)
    return f"no {whose} has {column} {written!r}{meant}; {near}there are: {told}; correct it{remedy}"
