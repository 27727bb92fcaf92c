"""The heads of paper 3 under test, see `cases`."""

from .cases import Case

CASES: list[Case] = []
