"""The heads of paper 5 under test, see `cases`."""

from .cases import Case

CASES: list[Case] = []
