"""Hints for a misspelt name: the names there are that it is like, for all messages that say "did you mean"."""

import difflib
from collections.abc import Iterable


def alike(name: str, known: Iterable[str], count: int = 1, likeness: float = 0.6) -> list[str]:
    """Return the known names that are most like a misspelt one, the likest first, each at least that much like it.

    >>> alike("wisper-base", ["whisper-base", "whisper-tiny", "clip"], count=2)
    ['whisper-base', 'whisper-tiny']
    """
    return difflib.get_close_matches(name, list(known), n=count, cutoff=likeness)


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that a misspelt one probably meant, if one is that much like it (difflib's ratio)."""
    return next(iter(alike(name, known, likeness=likeness)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean ...? " for a message, with the known name that was probably meant; "" if none is like it."""
    near = nearest(name, known)
    return f"did you mean {near!r}? " if near else ""
