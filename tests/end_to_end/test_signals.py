"""SIGINT, SIGTERM and SIGHUP sent to the real command line while it stands still at a place of interest."""

import contextlib
import csv
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emocache import cli
from emocache.cache import Cache
from emocache.cache.verify import verify
from emocache.cli import main
from emocache.stopping import Stopped, exit_status, stoppable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

ROOT = Path(__file__).parents[2]
CLIPS = 12
LINE = "stopped; what was finished is stored, and the same command goes on from there\n"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if sys.platform != "win32" else []
WAIT = 120.0  # seconds, for a machine that is very busy


class Standing:
    """The command in a process and a process group of its own."""

    def __init__(self, folder: Path, place: str, first: int, *arguments: object, **options: Any) -> None:
        self.folder = folder
        fifos = [folder / "reached", folder / "go-on"]
        for fifo in fifos:
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo)
        self._reached, self._go_on = (os.open(fifo, os.O_RDWR) for fifo in fifos)
        command = [sys.executable, "-m", "tests.end_to_end.standing", *map(str, arguments)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "STANDING": " ".join(map(str, [place, first, *fifos])),
            "OMP_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
        )  # fmt: skip

    def reached(self) -> None:
        """Wait until it stands still."""
        ready, _, _ = select.select([self._reached], [], [], WAIT)
        if not ready or os.read(self._reached, 5) != b"here\n":
            os.killpg(self.process.pid, signal.SIGKILL)  # else it would stand still for ever, and so would this
            raise AssertionError(self.process.communicate())

    def send(self, number: int) -> None:
        """To the process alone, as kill does."""
        self.process.send_signal(number)

    def send_all(self, number: int) -> None:
        """To the whole process group, as a terminal and schedulers do."""
        os.killpg(self.process.pid, number)

    def go_on(self, times: int = 100) -> None:
        """Let all that stand still now, or will, go on; or only so many."""
        os.write(self._go_on, b"." * times)

    def ended(self) -> tuple[int, str]:
        """Exit status and standard error but for the progress and what training warns of."""
        _, err = self.process.communicate(timeout=WAIT)
        told = [
            line
            for line in err.splitlines(keepends=True)
            if not line.startswith(("{", "warning: ")) and "to encode" not in line
        ]
        return self.process.returncode, "".join(told)

    def end_by_repeating(self, number: int) -> int:
        """Send the signal until the process is gone; the exit status."""
        for _ in range(round(WAIT / 0.05)):
            try:
                return self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                self.send(number)
        raise AssertionError("it goes on")

    def close(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(ProcessLookupError):  # all of the group are gone
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        os.close(self._reached)
        os.close(self._go_on)


Start = Callable[..., Standing]


@pytest.fixture(autouse=True)
def signals_that_are_not_ignored() -> Iterator[None]:
    """Whoever runs the tests, nohup or a shell in the background, may ignore some, and children inherit that."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command, standing still at a place."""
    begun: list[Standing] = []

    def started(place: str, first: int, *arguments: object, **options: Any) -> Standing:
        begun.append(Standing(tmp_path, place, first, *arguments, **options))
        return begun[-1]

    yield started
    for one in begun:
        one.close()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of three speakers and a table."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "emotion", "spk"])
        for clip in range(CLIPS):
            soundfile.write(folder / f"c{clip}.wav", random.normal(0, 0.1, 6400 + 160 * clip), 16_000)
            table.writerow([f"c{clip}.wav", ("sad", "happy")[clip % 2], f"s{clip % 3}"])
    return folder


def extraction(corpus: Path, cache: Path) -> list[object]:
    return ["extract", "table", "--data", corpus, "--cache", cache, "--encoder", "logmel", "--map",
            "id=name,file=name,label=emotion,speaker=spk"]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, arguments: list[object]) -> None:
    """The same command again, in this process."""
    monkeypatch.setattr(sys, "argv", ["emocache", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def stored(cache: Path) -> int:
    """Utterances in the stream, all of them whole."""
    assert not [problem for problem in verify(Cache(cache), full=True) if problem.object != "index.arrow"]
    return len(Cache(cache).stream("table", "logmel"))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_commits_what_is_extracted(
    start: Start, corpus: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent twice at once to the group, as `timeout` and a shell without its terminal do, it is one stop."""
    command = start("encode", 4, *extraction(corpus, tmp_path / "store"))
    command.reached()
    command.send(number)
    command.send_all(number)
    assert command.ended() == (128 + number, LINE)
    there = stored(tmp_path / "store")
    assert 3 <= there < CLIPS
    run(monkeypatch, extraction(corpus, tmp_path / "store"))
    assert stored(tmp_path / "store") == CLIPS
    assert len(list((tmp_path / "store").glob("table/logmel@*/commits/*.json"))) == 2


def test_a_signal_ends_the_main_threads_own_work(start: Start, corpus: Path, tmp_path: Path) -> None:
    command = start("plan", 1, *extraction(corpus, tmp_path / "store"))
    command.reached()
    command.send(signal.SIGTERM)
    assert command.ended() == (143, LINE)


def test_a_projection_that_is_stopped_is_gone_on_with(
    start: Start, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*extraction(corpus, tmp_path / "store"), "--pca", 2, "--fit-on", "all"]
    command = start("project", 2, *arguments)
    command.reached()
    command.send(signal.SIGHUP)
    assert command.ended() == (129, LINE)
    assert stored(tmp_path / "store") == CLIPS
    run(monkeypatch, arguments)
    assert len(Cache(tmp_path / "store").stream("table", "logmel.pca2")) == CLIPS


def test_signals_that_were_ignored_stay_ignored(start: Start, corpus: Path, tmp_path: Path) -> None:
    """SIGHUP under nohup, SIGINT in the background of a shell script."""

    def ignore() -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    command = start("encode", 4, *extraction(corpus, tmp_path / "store"), preexec_fn=ignore)
    command.reached()
    for _ in range(2):
        command.send_all(signal.SIGHUP)
        command.send_all(signal.SIGINT)
    command.go_on()
    assert command.ended() == (0, "") and stored(tmp_path / "store") == CLIPS


def test_a_second_signal_ends_at_once_what_is_committing(start: Start, corpus: Path, tmp_path: Path) -> None:
    command = start("store", 1, *extraction(corpus, tmp_path / "store"))
    command.reached()  # the writer holds the only unit, and the main thread waits for it
    command.send(signal.SIGTERM)
    assert command.end_by_repeating(signal.SIGINT) == 130
    assert stored(tmp_path / "store") == 0


@pytest.fixture(scope="module")
def cache(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus, extracted."""
    folder = tmp_path_factory.mktemp("cache") / "store"
    with pytest.MonkeyPatch.context() as patch:
        run(patch, extraction(corpus, folder))
    return folder


def training(cache: Path, runs: Path, jobs: int = 1) -> list[object]:
    return ["train", "probe", "--corpus", "table", "--cache", cache, "--runs", runs, "--jobs", jobs,
            "--set", 'streams=["logmel"]', "--set", "training.epochs=1"]  # fmt: skip


def finished(runs: Path) -> list[str]:
    """Folds whose run is stored; there is nothing else below but what they rest on."""
    folders = [path for path in runs.glob("*/*/*/*") if path.name != "sources"]
    assert all((path / "run.json").is_file() for path in folders), folders
    assert {path.name for path in runs.iterdir()} <= {"probe"}
    return sorted(path.name for path in folders)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_keeps_the_runs_that_are_stored(start: Start, cache: Path, tmp_path: Path, number: int) -> None:
    command = start("train", 2, *training(cache, tmp_path / "runs"))
    command.reached()
    command.send(number)
    command.send_all(number)
    status, told = command.ended()
    assert (status, told.splitlines(keepends=True)[1:]) == (128 + number, [LINE])  # the first tells of the device
    assert finished(tmp_path / "runs") == ["fold0-seed0"]


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_processes_store_what_they_are_storing(start: Start, cache: Path, tmp_path: Path, number: int) -> None:
    """The whole group gets the signal, and the processes get it from their parent only: no traceback, no half run."""
    command = start("store", 1, *training(cache, tmp_path / "runs", jobs=2))
    command.reached()  # the sources of the runs are stored first
    command.go_on(1)
    command.reached()
    command.reached()  # both have trained a run and are about to store it
    command.send_all(number)
    command.go_on()
    status, told = command.ended()
    assert (status, told.splitlines(keepends=True)[1:]) == (128 + number, [LINE])  # the first tells of the device
    assert finished(tmp_path / "runs") == ["fold0-seed0", "fold1-seed0"]


@pytest.mark.skipif(sys.platform != "linux", reason="how it hangs")
def test_a_second_signal_ends_at_once_what_hangs_in_a_library(start: Start, cache: Path, tmp_path: Path) -> None:
    command = start("hang", 2, *training(cache, tmp_path / "runs"))
    command.reached()
    command.send(signal.SIGTERM)
    assert command.end_by_repeating(signal.SIGTERM) == 143
    assert finished(tmp_path / "runs") == ["fold0-seed0"]


def test_what_a_destructor_swallows_comes_again() -> None:
    class Asked:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(1000))

    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(Stopped) as stopped, stoppable():
        Asked()
        signal.pause()
    assert exit_status(stopped.value) == 143
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before


def test_plain_ctrl_c_is_130() -> None:
    assert exit_status(KeyboardInterrupt()) == 130


def test_a_signal_outside_of_any_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as between the command and the end of the process: the same line and status, whatever typer makes of it."""

    def stopped(self: cli.Root, *arguments: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cli.Root, "make_context", stopped)
    monkeypatch.setattr(sys, "argv", ["emocache", "encoders"])
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 143 and capsys.readouterr().err == LINE
