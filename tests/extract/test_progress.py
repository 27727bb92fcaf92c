"""What is told while a run goes on: what is stored, and a time left that follows what is encoded."""

import json
import sys

import pytest

from emocache.extract.pipeline.progress import Progress

from ..terminal import Terminal


def test_lines_count_what_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Progress(8, lambda: now[0]) as progress:
        for seconds, encoded, stored in [
            (4, 2, 0),
            (8, 2, 0),
            (12, 2, 0),
            (12, 0, 4),
            (13, 0, 0),
            (16, 2, 0),
            (17, 0, 4),
        ]:
            now[0] = seconds
            progress(encoded, stored)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        {"done": 0, "encoded": 6, "total": 8, "seconds": 12, "seconds_left": 4},
        {"done": 4, "encoded": 6, "total": 8, "seconds": 12, "seconds_left": 4},
        {"done": 8, "encoded": 8, "total": 8, "seconds": 17, "seconds_left": 0},
    ]


def test_the_bar_counts_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = [0.0]
    with Progress(8, lambda: now[0]) as progress:
        now[0] = 60.0
        bar = progress._bar
        assert bar is not None
        progress(4, 0)
        assert bar.n == 0
        progress(0, 2)
        assert bar.n == 2
    last = terminal.getvalue().rpartition("\r")[2]
    assert "2/8 stored" in last and "4 encoded, about 01:00 left" in last


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream = Terminal()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(8) as progress:
        stream.gone = True
        progress(4, 4)
        progress(4, 4)
    assert progress.done == 8
