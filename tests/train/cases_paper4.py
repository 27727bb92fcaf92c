"""The heads of paper 4 under test, see `cases`."""

from .cases import Case

CASES: list[Case] = []
