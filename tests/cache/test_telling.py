"""What is told of work that goes on: a bar on a terminal, lines elsewhere, and the log."""

import sys
from pathlib import Path

import pytest

from emocache.cache.errors import EmocacheError
from emocache.cache.telling import Progress, manner, tell, told_as, warn

from ..terminal import Terminal


def test_lines_come_every_ten_seconds_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Progress("runs", 4, lambda: now[0]) as progress:
        for second in range(40):
            now[0] = second
            if second % 10 == 9:
                progress.step()
            else:
                progress.under_way((second % 10) / 10, f"epoch {second}")
    assert capsys.readouterr().err.splitlines() == [
        "1 of 4 runs; 00:30 left, epoch 10",
        "2 of 4 runs; 00:20 left, epoch 20",
        "3 of 4 runs; 00:10 left, epoch 30",
    ]


def test_a_terminal_gets_a_bar_after_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = [0.0]
    with Progress("results", 8, lambda: now[0]) as progress:
        now[0] = 60.0
        assert progress._bar is not None
        progress.step(4)
        assert terminal.getvalue() == ""  # less than two seconds by tqdm's own clock
        progress._bar.delay = 0
        progress._bar.refresh()
    assert "4 of 8 results  50%" in terminal.getvalue()
    assert "01:00 left" in terminal.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream, now = Terminal(), [0.0]
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("done", 8, lambda: now[0]) as progress:
        stream.gone, now[0] = True, 99.0
        progress.step()
        progress.under_way(0.5, "half")


def test_quiet_tells_warnings_only_and_the_log_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    now = [0.0]
    for _ in range(2):  # it is added to
        with told_as(True, False, tmp_path / "log"), Progress("done", 2, lambda: now[0]) as progress:
            tell("fold 0")
            warn("few speakers")
            print("a result\nof two lines")
            now[0] += 99
            progress.step()
    assert (sys.stdout, sys.stderr) == before and not manner.quiet
    told = capsys.readouterr()
    assert told.out == "a result\nof two lines\n" * 2 and told.err == "few speakers\n" * 2
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line[20:] for line in lines] == ["fold 0", "few speakers", "a result", "of two lines"] * 2
    with pytest.raises(EmocacheError, match="name a file that can be written to"), told_as(False, False, tmp_path):
        pass


def test_the_log_has_the_last_state_of_a_line_that_redraws_itself(tmp_path: Path) -> None:
    with told_as(False, False, tmp_path / "log"):
        sys.stderr.write("\r10 %")
        sys.stderr.write("\r20 %")
        sys.stderr.write("\r30 %\n")
    assert (tmp_path / "log").read_text()[20:] == "30 %\n"
