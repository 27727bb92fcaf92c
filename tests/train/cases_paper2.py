"""The heads of paper 2 under test, see `cases`."""

from .cases import Case

CASES: list[Case] = []
