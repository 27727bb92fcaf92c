"""Running the command line inside the test process."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from emocache import cli


class Ran(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def emocache_(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`emocache_("cache", "ls", path)`: status, standard output and standard error of the command."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["emocache", *map(str, arguments)])
        monkeypatch.setattr(os, "_exit", sys.exit)  # after Ctrl-C, which would end the tests as well
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), captured.out, captured.err)

    return run
