"""The end of a terminal as a picture: colours stay, what was written over is gone."""

import subprocess
import sys

import pytest

from emocache.benchmarks.terminal_pictures import COLUMNS, last_screen, run_in_terminal, terminal_page

SIZE = "import os, sys; print(os.get_terminal_size().columns, sys.stdout.isatty(), sys.stderr.isatty())"


def test_a_command_finds_a_terminal_of_its_own() -> None:
    assert run_in_terminal([sys.executable, "-c", SIZE]).split() == [str(COLUMNS), "True", "True"]
    assert run_in_terminal([sys.executable, "-c", "print('x' * 200_000)"]).count("x") == 200_000


def test_a_command_that_fails_makes_no_picture() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        terminal_page([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ("a\r\nb\r\nc\r\n", ["b", "c"]),
        ("10 %\r\x1b[K20 %\rdone\r\nb\r\n\r\n", ["done", "b"]),
        ("\x1b[?25l\x1b[1mbold\x1b[0m\r\n", ["\x1b[1mbold\x1b[0m"]),
        ("", []),
    ],
)
def test_the_last_lines_are_those_that_stand_there_in_the_end(written: str, lines: list[str]) -> None:
    assert last_screen(written, 2) == lines


def test_a_page_has_the_command_and_its_colours() -> None:
    page = terminal_page([sys.executable, "-c", r"print('\x1b[1mbold <b>\x1b[0m'); print('last')"])
    assert "bold &lt;b&gt;" in page and "font-weight: bold" in page
    assert page.index("$ ") < page.index("bold &lt;b&gt;") < page.rindex("last")
