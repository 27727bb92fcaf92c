"""Runs have a life: what counts after a corrected label, what is removed, and what never is."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from emocache.cache import EmocacheError, Manifest
from emocache.cli import app
from emocache.evaluate.report import evaluate_runs
from emocache.evaluate.scoring.stored_runs import discover
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.fusion_settings import FusionSettings
from emocache.train.config.loading import load_experiment
from emocache.train.config.parsing import parse_settings
from emocache.train.run.crew import Crew
from emocache.train.run.request import Request, carry_out
from emocache.train.stored.run_folders import FORMER, recorded
from emocache.train.stored.stored_results import read_stored, remove_run

from .conftest import EXPERIMENT

if TYPE_CHECKING:
    from .conftest import Toy

FUSION = 'fusion.members = ["small.toml", "other.toml"]\n'


class Life:
    """A cache with one corpus, experiments on it, and the command line."""

    def __init__(self, toy: "Toy") -> None:
        self.toy = toy
        self.corpus = toy.corpus()
        self.cache = toy.cache(self.corpus)
        self.runs = toy.folder / "runs"
        quick = EXPERIMENT.replace("epochs = 15", "epochs = 2")
        toy.experiment(quick, "small")
        toy.experiment(quick.replace("0.02", "0.05"), "other")
        toy.experiment(FUSION, "fused")

    def label(self, emotion: str) -> None:
        """Give the first utterance this label."""
        rows = self.corpus.rows
        rows[0] = replace(rows[0], labels={**rows[0].labels, "emotion": emotion})
        self.cache.put_manifest(Manifest.from_utterances("toys", rows))

    def train(self, name: str = "small", folds: tuple[int, ...] = (), runs: Path | None = None) -> str:
        """Carry out an experiment; returns its setting."""
        request = Request(self.cache, ["toys"], runs or self.runs, folds=folds)
        plan = request.plan(request.experiment(str(self.toy.folder / f"{name}.toml")))
        list(carry_out(plan, Crew(1), False))
        return plan.setting

    def __call__(self, *arguments: object, status: int = 0) -> Result:
        ran = CliRunner().invoke(app, [str(one) for one in arguments])
        assert ran.exit_code == status, ran.output
        return ran

    def ls(self, *options: object) -> dict[str, tuple[str, int]]:
        """{setting: (state, runs)}."""
        found = json.loads(self("runs", "ls", self.runs, "--json", *options).stdout)["runs"]
        return {one["id"].split("/")[2]: (one["state"], len(one["runs"])) for one in found}

    def files(self) -> dict[str, bytes]:
        """All files below the runs."""
        found = sorted(path for path in self.runs.rglob("*") if path.is_file())
        return {path.relative_to(self.runs).as_posix(): path.read_bytes() for path in found}

    def results(self, out: str, *options: object) -> bytes:
        """results.json of an evaluation."""
        folder = self.toy.folder / out
        self("evaluate", self.runs, "--out", folder, *options)
        return (folder / "results.json").read_bytes()


@pytest.fixture
def life(toy: "Toy") -> Life:
    """See there."""
    return Life(toy)


def test_after_a_corrected_label_the_new_runs_count(life: Life) -> None:
    old = life.train()
    assert life.ls() == {old: ("current", 3)} == life.ls("--cache", life.toy.root)
    before = life("evaluate", life.runs, "--out", life.toy.folder / "before")
    assert before.stderr == ""
    life.label("happy")
    assert life.ls() == {old: ("current", 3)} and life.ls("--cache", life.toy.root) == {old: ("superseded", 3)}
    alone = "no complete runs of today's data take its place yet"
    assert alone in life("runs", "prune", life.runs, "--cache", life.toy.root, "--dry-run").stdout
    new = life.train()
    assert life.ls() == {old: ("superseded", 3), new: ("current", 3)} == life.ls("--cache", life.toy.root)

    ran = life("evaluate", life.runs, "--out", life.toy.folder / "out")
    assert ran.stderr == "3 other runs of older data are left out (--all)\n"
    document = json.loads((life.toy.folder / "out" / "results.json").read_text())
    assert [one["setting"] for one in document["results"]] == [new]
    assert len(json.loads(life.results("all", "--all"))["results"]) == 2
    table = life("runs", "ls", life.runs, "--cache", life.toy.root).stdout
    assert alone not in table
    assert f"small/toys/{old}" in table and "3 of 3" in table and "runs prune" in table


def test_one_run_is_told_as_one(life: Life) -> None:
    life.train(folds=(0,))
    life.label("happy")
    life.train(folds=(0,))
    ran = life("evaluate", life.runs, "--out", life.toy.folder / "out")
    assert ran.stderr == "1 other run of older data is left out (--all)\n"


def test_prune_removes_exactly_the_superseded(life: Life) -> None:
    old = life.train()
    life.label("happy")
    new = life.train()
    before, results = life.files(), life.results("before")
    told = life("runs", "prune", life.runs, "--dry-run").stdout
    assert f"small/toys/{old}" in told and new not in told and "would be removed: 3 superseded runs" in told
    assert life.files() == before
    refused = life("runs", "prune", life.runs, status=1)
    assert "give --yes" in str(refused.stderr) and life.files() == before
    life("runs", "prune", life.runs, "--yes")
    assert life.files() == {name: data for name, data in before.items() if old not in name}
    assert not (life.runs / "small/toys" / old).exists() and life.results("after") == results
    assert "nothing to remove" in life("runs", "prune", life.runs, "--yes").stdout


def test_newer_runs_that_a_kill_cut_short_do_not_hide_complete_ones(life: Life) -> None:
    old = life.train()
    life.label("happy")
    new = life.train(folds=(1,))
    assert life.ls() == {old: ("current", 3), new: ("newer", 1)}
    ran = life("evaluate", life.runs, "--out", life.toy.folder / "out")
    assert "small on toys: 1 of 3 runs of newer data are left out (--all)" in ran.stderr
    assert "of older data there are 3 of 3 runs, which are taken" in ran.stderr
    life("runs", "prune", life.runs, "--yes")
    assert life.ls() == {old: ("current", 3), new: ("newer", 1)}
    life.train()
    assert life.ls() == {old: ("superseded", 3), new: ("current", 3)}


def test_a_correction_that_is_taken_back_has_the_first_runs_current_again(life: Life) -> None:
    first = str(life.corpus.rows[0].labels["emotion"])
    old = life.train()
    life.label("happy")
    new = life.train()
    life.label(first)
    assert life.ls("--cache", life.toy.root) == {old: ("current", 3), new: ("superseded", 3)}
    assert life.train() == old  # reuses what is stored
    assert life.ls() == {old: ("current", 3), new: ("superseded", 3)}
    life("runs", "prune", life.runs, "--yes")
    assert life.ls() == {old: ("current", 3)}


def test_other_settings_seeds_and_experiments_supersede_nothing(life: Life) -> None:
    life.train()
    life.label("happy")
    life.train("other")
    for path, line in (("small", "seeds = [0, 1]"), ("small", "modalities = 'any'")):
        file = life.toy.folder / f"{path}.toml"
        file.write_text(f"{line}\n{file.read_text()}")
    old = life.ls()
    life.train()
    assert life.ls().items() > old.items() and {state for state, _ in life.ls().values()} == {"current"}


def test_a_fusion_tells_that_its_members_are_superseded_or_gone(life: Life) -> None:
    fused = life.train("fused")
    life.label("happy")
    life.train()

    def notes(*options: object) -> list[str]:
        found = json.loads(life("runs", "ls", life.runs, "--json", *options).stdout)["runs"]
        return next(one["notes"] for one in found if one["setting"] == fused)

    assert notes() == ["its member small is superseded"]
    assert notes("--cache", life.toy.root)[1:] == [f"its member {name} is superseded" for name in ("small", "other")]
    ran = life("evaluate", life.runs, "--out", life.toy.folder / "out")
    assert "fused on toys: fuses runs of older data of small; train it again" in ran.stderr
    life("runs", "prune", life.runs, "--yes")
    assert notes() == ["its member small is gone"]
    again = life.train("fused")
    assert life.ls()[fused] == ("superseded", 3) and life.ls()[again] == ("current", 3)
    assert life.ls("--cache", life.toy.root)[again] == ("current", 3)


def test_a_fusion_over_seeds_is_compared_with_its_own_seeds(life: Life) -> None:
    for name in ("small", "other"):
        file = life.toy.folder / f"{name}.toml"
        file.write_text(f"seeds = [3, 4]\n{file.read_text()}")
    life.toy.experiment(f"{FUSION}fusion.over_seeds = true\n", "fused")
    fused = life.train("fused")
    assert life.ls("--cache", life.toy.root)[fused] == ("current", 3) == life.ls()[fused]


def test_a_cache_that_cannot_tell_has_nothing_removed(life: Life, toy: "Toy") -> None:
    old = life.train()
    toy.root = toy.folder / "elsewhere"
    toy.cache(name="others")
    assert life.ls("--cache", toy.root) == {old: ("unknown", 3)}
    toy.root = toy.folder / "third"
    toy.cache(stream="another")
    assert life.ls("--cache", toy.root) == {old: ("unknown", 3)}
    assert "nothing to remove" in life("runs", "prune", life.runs, "--cache", toy.root, "--yes").stdout
    refused = life("runs", "ls", life.runs, "--cache", toy.folder / "absent", status=1)
    assert "absent does not exist; give the folder that" in refused.stderr


def test_rm_takes_ids_and_refuses_others(life: Life) -> None:
    setting = life.train()
    before = life.files()
    for wrong in (f"small/toys/{setting[:-1]}", "../store", str(life.toy.root), "small", ".", ""):
        assert "no run" in life("runs", "rm", life.runs, "--yes", wrong, status=1).stderr
    near = life("runs", "rm", life.runs, "--yes", f"small/toys/{setting[:-1]}x", status=1).stderr
    assert f"did you mean 'small/toys/{setting}'?" in near and life.files() == before
    life("runs", "rm", life.runs, "--yes", f"small/toys/{setting}/fold1-seed0")
    assert life.ls() == {setting: ("current", 2)}
    life("runs", "rm", life.runs, "--yes", f"small/toys/{setting}/")
    assert life.files() == {} and life.runs.is_dir() and not list(life.runs.iterdir())


def test_what_is_no_run_is_left_alone(life: Life) -> None:
    old = life.train()
    life.label("happy")
    new = life.train()
    outside = life.toy.folder / "outside"
    shutil.copytree(life.runs / "small", outside / "small")
    (life.runs / "linked").symlink_to(outside)
    notes = life.runs / "small/toys" / old / "fold1-seed0" / "notes.txt"
    notes.write_text("mine")
    (life.runs / "small/toys" / old / "fold7-seed7").symlink_to(life.runs / "small/toys" / old / "fold2-seed0")
    (life.runs / "small/toys" / old / "paper.pdf").write_text("mine")
    kept = sorted(path for path in outside.rglob("*"))
    assert life.ls() == {old: ("superseded", 3), **{k: v for k, v in life.ls().items() if k != old}}
    told = life("runs", "prune", life.runs, "--yes").stdout
    assert f"stays: small/toys/{old}/fold1-seed0 holds notes.txt, which is no part of a run" in told
    left = sorted(path.name for path in (life.runs / "small/toys" / old).iterdir())
    assert left == ["fold1-seed0", "fold7-seed7", "paper.pdf", "sources"] and notes.read_text() == "mine"
    assert sorted(path for path in outside.rglob("*")) == kept
    (life.runs / "small/toys" / new / "fold2-seed0" / "notes").mkdir()
    refused = life("runs", "rm", life.runs, "--yes", f"small/toys/{new}", status=1)
    assert "fold2-seed0 holds notes, which is no part of a run" in refused.stderr and life.ls()[new] == ("current", 3)
    refused = life("runs", "rm", life.runs, "--yes", f"small/toys/{old}/fold1-seed0", status=1)
    assert "move that elsewhere first" in refused.stderr and notes.exists()


def test_a_damaged_run_is_listed_and_can_be_removed(life: Life) -> None:
    setting = life.train()
    folder = life.runs / "small/toys" / setting / "fold2-seed0"
    (folder / "run.json").write_text("{")
    (folder.with_name("fold1-seed0") / "predictions.parquet").unlink()
    found = {one.id: one.state for one in read_stored(life.runs).results}
    assert found == {
        f"small/toys/{setting}": "current",
        f"small/toys/{setting}/fold1-seed0": "damaged",
        f"small/toys/{setting}/fold2-seed0": "damaged",
    }
    life("runs", "prune", life.runs, "--yes")
    assert folder.is_dir()
    life("runs", "rm", life.runs, "--yes", f"small/toys/{setting}/fold2-seed0")
    assert not folder.exists() and folder.with_name("fold1-seed0").is_dir()


def test_runs_that_count_again_while_prune_asks_are_spared(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    first = str(life.corpus.rows[0].labels["emotion"])
    old = life.train()
    life.label("happy")
    new = life.train()

    def answer(*_: object, **__: object) -> bool:
        life.label(first)
        life.train()
        return True

    monkeypatch.setattr("emocache.train.runs_command._ask", answer)
    assert "removed nothing, 0 B" in life("runs", "prune", life.runs).stdout
    assert life.ls() == {old: ("current", 3), new: ("superseded", 3)}


def test_leftovers_go_once_nobody_can_be_at_work_on_them(life: Life) -> None:
    setting = life.train()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    host = socket.gethostname()
    features = [life.runs / f".features-{host}-{process}-ab_c" for process in (gone.pid, os.getpid())]
    features.append(life.runs / f".features-elsewhere-{gone.pid}-abc")
    halves = [life.runs / "small/toys" / setting / f".fold{k}-seed9.0123456789ab.tmp" for k in range(2)]
    for folder in (*features, *halves):
        folder.mkdir()
        (folder / ("0.npy" if folder in features else "run.json")).write_text("half")
    for path in (halves[0], halves[0] / "run.json"):
        os.utime(path, (0, 0))
    before = life.results("before")
    told = life("runs", "prune", life.runs, "--yes").stdout
    there = [path.exists() for path in (*features, *halves)]
    assert there == [False, True, True, False, True]
    assert (
        f"leftover: {features[1].name}" in told
        and f"stays: process {os.getpid()} is at work" in told
        and "removed 2 leftovers, " in told
    )
    assert life.ls() == {setting: ("current", 3)} and life.results("after") == before


def test_a_kill_during_removal_leaves_whole_runs_and_leftovers(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    old = life.train()
    folder = life.runs / "small/toys" / old / "fold0-seed0"

    def killed(path: Path, *_: Any) -> None:
        (path / "run.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("emocache.cache.local.shutil.rmtree", killed)
        remove_run(life.runs, folder)
    assert not folder.exists() and len(discover([life.runs])) == 2
    (left,) = read_stored(life.runs).leftovers
    assert left.held == "written within the hour"
    for path in (left.path, *left.path.iterdir()):
        os.utime(path, (0, 0))
    life("runs", "prune", life.runs, "--yes")
    assert not left.path.exists() and life.ls() == {old: ("current", 2)}


def test_folders_inside_runs_are_refused(life: Life) -> None:
    setting = life.train()
    for inside in (f"small/toys/{setting}", f"small/toys/{setting}/fold0-seed0"):
        with pytest.raises(EmocacheError, match="lies inside runs; give the folder"):
            read_stored(life.runs / inside)
    with pytest.raises(EmocacheError, match="is not a folder"):
        read_stored(life.runs / "absent")


def test_two_folders_of_runs_are_evaluated_as_one(life: Life) -> None:
    life.train()
    life.label("happy")
    new = life.train(runs=life.toy.folder / "later")
    lines: list[str] = []
    (found,) = evaluate_runs([life.runs, life.toy.folder / "later"], tell=lines.append)
    assert found.result.first.setting == new and lines == ["3 other runs of older data are left out (--all)"]
    (alone,) = evaluate_runs([life.runs], tell=lines.append)
    assert alone.result.first.setting != new and len(lines) == 1


@pytest.mark.parametrize("experiment", experiment_names())
def test_settings_are_read_back_from_run_json_as_they_were(experiment: str) -> None:
    """Or a run that training would reuse would be taken for superseded."""
    try:
        settings = load_experiment(experiment)[2]
    except EmocacheError:  # names no streams of its own
        return
    if isinstance(settings, FusionSettings):
        return
    written = json.loads(json.dumps(recorded(settings)))
    former = {name: value for name, value in FORMER.items() if "." not in name and name not in written}
    assert recorded(parse_settings(written, lambda _: "run.json").model_copy(update=former)) == recorded(settings)
