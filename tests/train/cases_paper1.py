"""The heads of paper 1 under test, see `cases`."""

from .cases import Case

CASES: list[Case] = []
