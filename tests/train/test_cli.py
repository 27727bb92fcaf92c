"""`emocache train` as it is typed."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from emocache.cache import Cache, EmocacheError, Manifest, Utterance
from emocache.train.cli import train
from emocache.train.config import experiment_names
from emocache.train.config.stream_lists import corpora_of_all
from emocache.train.run.estimates import duration
from emocache.train.run.everything import corpora_in

from .conftest import EXPERIMENT

if TYPE_CHECKING:
    from .conftest import Toy


def app() -> typer.Typer:
    """The command alone."""
    alone = typer.Typer()
    alone.command()(train)
    return alone


def call(toy: "Toy", *more: str, experiments: Sequence[str] | None = None) -> Result:
    where = ["--corpus", "toys", "--cache", str(toy.root), "--runs", str(toy.folder / "runs"), "--device", "cpu"]
    names = [toy.experiment()] if experiments is None else experiments
    return CliRunner().invoke(app(), [*names, *where, "--set", "training.epochs=2", *more])


def runs(toy: "Toy") -> list[str]:
    """experiment/fold of every run."""
    return sorted(f"{f.parts[-4]}/{f.name}" for f in (toy.folder / "runs").glob("*/*/*/fold*"))


def test_a_second_run_trains_nothing_and_says_so(toy: "Toy") -> None:
    toy.cache(failures=["spk1_0"])
    first = call(toy, "--set", "labels={angry=['angry'], sad=['sad']}")
    assert first.exit_code == 0, first.exception
    assert "dropped by the label map: happy (12)" in first.output
    assert "without features: 1 utterances (toys/spk1_0); in the test part: prior" in first.output
    assert "shared between train, valid and test: no speaker; no session" in first.output
    assert "3 trained, 0 reused: " in first.output and "fold 2 seed 0: validation accuracy" in first.output
    again = call(toy, "--set", "labels={angry=['angry'], sad=['sad']}")
    (record, *_) = (toy.folder / "runs").rglob("run.json")
    asked = [toy.experiment(), "training.epochs=2", "labels={angry=['angry'], sad=['sad']}"]
    assert json.loads(record.read_text())["command"] == asked
    assert "0 trained, 3 reused: " in again.output and "seed" not in again.output.splitlines()[-2]


def test_dry_run_tells_and_trains_nothing(toy: "Toy") -> None:
    toy.cache()
    result = call(toy, "--dry-run", "--set", "protocol.name=random_folds", "--set", "features.normalise=per_speaker")
    assert result.exit_code == 0, result.exception
    assert "shared between train, valid and test: speakers 1" in result.output and "TRANSDUCTIVE" in result.output
    assert "fold 0: 12 train, 12 valid, 12 test of S1, " in result.output and " angry, " in result.output
    assert "memory: " in result.output and "runs: 3 to train, 0 stored already" in result.output
    assert "time: about " in result.output
    assert not (toy.folder / "runs").exists()


def test_errors_are_emocache_errors_and_usage_is_usage(toy: "Toy") -> None:
    toy.cache()
    misspelt = call(toy, "--set", "training.epoch=2")
    assert isinstance(misspelt.exception, EmocacheError) and "did you mean 'training.epochs'?" in str(
        misspelt.exception
    )
    assert call(toy, "--device", "tpu").exit_code == 2
    assert call(toy, "--jobs", "0").exit_code == 2
    assert call(toy, "--runs", "").exit_code == 2 and call(toy, "--cache", "").exit_code == 2


def test_a_cache_or_corpus_that_is_not_there_is_told_as_such(toy: "Toy") -> None:
    toy.cache()
    corpus = call(toy, "--corpus", "toyz")
    assert str(corpus.exception) == f"cache {toy.root} has no corpus 'toyz'; did you mean 'toys'? it has: toys"
    absent = call(toy, "--cache", str(toy.folder / "absent"))
    remedy = "give the folder that `emocache extract --cache` wrote to"
    assert str(absent.exception) == f"cache {toy.folder}/absent does not exist; {remedy}"
    file = call(toy, "--cache", toy.experiment())
    assert isinstance(file.exception, EmocacheError) and "small.toml is a file; give a folder" in str(file.exception)


@pytest.mark.parametrize("below", ["", "/runs"])
def test_runs_that_cannot_be_written_are_told_before_training(
    toy: "Toy", below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.cache()
    monkeypatch.setattr("emocache.train.run.experiment_plan.train_fold", None)
    for jobs in ("1", "2"):
        told = call(toy, "--runs", toy.experiment() + below, "--jobs", jobs)
        assert isinstance(told.exception, EmocacheError)
        assert f"--runs {toy.experiment()}{below}: no run can be stored there" in str(told.exception)


def test_an_error_in_training_names_the_experiment(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    toy.cache()
    wrong = call(toy, "--set", "keep=gate")
    assert isinstance(wrong.exception, EmocacheError) and str(wrong.exception).startswith("small: keep: ")

    def builds(*_: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr("emocache.train.run.experiment_plan.train_fold", builds)
    large = call(toy)
    assert isinstance(large.exception, EmocacheError) and "\n" not in str(large.exception)
    assert str(large.exception).startswith("small: out of memory (") and "make the head or" in str(large.exception)


def test_several_experiments_are_read_before_the_first_is_trained(toy: "Toy") -> None:
    toy.cache()
    one, two = toy.experiment(), toy.experiment(EXPERIMENT.replace("folds = 3", "folds = 4"), "other")
    wrong = call(toy, experiments=[one, toy.experiment(EXPERIMENT + "[heads]\n", "wrong")])
    assert isinstance(wrong.exception, EmocacheError) and "wrong.toml: unknown setting 'heads'" in str(wrong.exception)
    assert runs(toy) == []
    done = call(toy, "--fold", "0", "--fold", "2", experiments=[one, two, one])
    assert done.exit_code == 0, done.exception
    assert runs(toy) == ["other/fold0-seed0", "other/fold2-seed0", "small/fold0-seed0", "small/fold2-seed0"]
    assert done.output.count("2 trained, 0 reused: ") == 2
    assert "1 trained, 2 reused: " in call(toy).output
    beyond = call(toy, "--fold", "3", experiments=[one])
    assert isinstance(beyond.exception, EmocacheError) and "'small' has folds 0 to 2" in str(beyond.exception)


def test_several_experiments_are_planned_before_the_first_is_trained(toy: "Toy") -> None:
    toy.cache()
    good, bad = toy.experiment(), toy.experiment(EXPERIMENT.replace('"toy"', '"absent"'), "bad")
    done = call(toy, experiments=[good, bad])
    assert isinstance(done.exception, EmocacheError) and "no stream 'absent'" in str(done.exception)
    assert not runs(toy)


def test_dry_run_of_one_fold(toy: "Toy") -> None:
    toy.cache()
    result = call(toy, "--dry-run", "--fold", "1")
    assert "fold 1: " in result.output and "fold 0: " not in result.output and "runs: 1 to train" in result.output


def test_a_sweep_is_a_search(toy: "Toy") -> None:
    toy.cache()
    done = call(toy, "--fold", "0", "--sweep", "training.weight_decay=[0.0, 0.1]", "--sweep", "head.pooling=[mean_std]")
    assert isinstance(done.exception, EmocacheError) and "--sweep 'head.pooling=[mean_std]' is not" in str(
        done.exception
    )
    sweeps = ["--sweep", "training.weight_decay=[0.0, 0.1]", "--sweep", "head.pooling=['mean', 'mean_std']"]
    done = call(toy, "--fold", "0", *sweeps)
    assert "search: 4 settings of training.weight_decay, head.pooling tried in each fold and seed" in done.output
    (path,) = (toy.folder / "runs").rglob("run.json")
    tried = json.loads(path.read_text())["selection"]["tried"]
    assert [one["settings"]["training.weight_decay"] for one in tried] == [0.0, 0.0, 0.1, 0.1]
    assert [one["settings"]["head.pooling"] for one in tried] == ["mean", "mean_std"] * 2
    wrong = call(toy, "--sweep", "head.poolin=['mean']")
    assert isinstance(wrong.exception, EmocacheError) and "did you mean 'head.pooling'?" in str(wrong.exception)


def test_all_trains_what_the_corpus_is_good_for_and_lists_the_rest(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    toy.cache()
    shipped = toy.folder / "shipped"
    (shipped / "paper").mkdir(parents=True)
    monkeypatch.setattr(experiment_names, "EXPERIMENTS", shipped)
    described = 'description = "Good"\n' + EXPERIMENT
    (shipped / "paper/good.toml").write_text(described)
    (shipped / "paper/_part.toml").write_text("[training]\nepochs = 1\n")
    (shipped / "stream.toml").write_text(EXPERIMENT.replace('"toy"', '"absent"'))
    (shipped / "target.toml").write_text(EXPERIMENT.replace('"emotion"', '"mood"'))
    (shipped / "open.toml").write_text(EXPERIMENT.replace('streams = ["toy"]', ""))
    (shipped / "both.toml").write_text('[fusion]\nmembers = ["paper/good", "stream"]\n')
    done = call(toy, "--all", experiments=[])
    assert done.exit_code == 0, done.exception
    assert "1 of 5 experiments carried out, 4 cannot be on these corpora, 0 failed" in done.output.splitlines()[-1]
    refused = [line for line in done.output.splitlines() if line.startswith("not for toys: ")]
    # Each reason once, with all that it holds for.
    assert [line.rpartition(": ")[2] for line in refused] == ["both, stream", "open", "target"]
    assert "has no stream 'absent'" in refused[0] and "no streams" in refused[1] and "'mood'" in refused[2]
    assert "3 trained" in done.output and "0 trained, 3 reused" in call(toy, "--all", experiments=[]).output

    listed = CliRunner().invoke(app(), ["--list"])
    assert listed.exit_code == 0 and [line.split()[0] for line in listed.output.splitlines()] == [
        "both", "open", "paper/good", "stream", "target"
    ]  # fmt: skip
    assert "paper/good  Good" in listed.output


def test_all_goes_on_after_a_failure_and_tells_it_last(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    toy.cache()
    shipped = toy.folder / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(experiment_names, "EXPERIMENTS", shipped)
    (shipped / "a.toml").write_text('keep = "gate"\n' + EXPERIMENT)
    (shipped / "b.toml").write_text(EXPERIMENT)
    done = call(toy, "--all", experiments=[])
    assert isinstance(done.exception, EmocacheError) and "1 experiments failed, the first is a: " in str(done.exception)
    assert "1 of 2 experiments carried out, 0 cannot be on these corpora, 1 failed" in done.output
    assert runs(toy) == [f"b/fold{k}-seed0" for k in range(3)]


def test_all_where_nothing_fits_is_an_error(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    toy.cache()
    shipped = toy.folder / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(experiment_names, "EXPERIMENTS", shipped)
    (shipped / "stream.toml").write_text(EXPERIMENT.replace('"toy"', '"absent"'))
    done = call(toy, "--all", experiments=[])
    assert isinstance(done.exception, EmocacheError) and "no experiment can be carried out on toys" in str(
        done.exception
    )
    assert "0 of 1 experiments carried out, 1 cannot be on these corpora" in done.output


def test_experiments_or_all_but_not_both(toy: "Toy") -> None:
    assert call(toy, "--all").exit_code == 2


def everything(toy: "Toy", *more: str) -> Result:
    """`emocache train` without an experiment."""
    return CliRunner().invoke(
        app(), ["--cache", str(toy.root), "--runs", str(toy.folder / "runs"), "--jobs", "1", *more]
    )


@pytest.fixture
def shipped(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in the place of the shipped experiments."""
    folder = toy.folder / "shipped"
    (folder / "paper").mkdir(parents=True)
    monkeypatch.setattr(experiment_names, "EXPERIMENTS", folder)
    corpora_of_all.cache_clear()
    yield folder
    corpora_of_all.cache_clear()


def test_everything_for_the_corpora_of_the_cache(toy: "Toy", shipped: Path) -> None:
    toy.cache()
    ours = 'corpora = "toys"\ndescription = "d"\n' + EXPERIMENT
    (shipped / "paper/slow.toml").write_text(ours.replace("epochs = 15", "epochs = 3"))
    (shipped / "paper/quick.toml").write_text(ours.replace("epochs = 15", "epochs = 2"))
    (shipped / "paper/both.toml").write_text('[fusion]\nmembers = ["paper/slow", "paper/quick"]\nrule = "average"\n')
    (shipped / "paper/lacks.toml").write_text(ours.replace('["toy"]', '["absent", "toy"]'))
    (shipped / "paper/label.toml").write_text(ours.replace('"emotion"', '"mood"'))
    (shipped / "other.toml").write_text(ours.replace('corpora = "toys"', 'corpora = "others"'))
    told = everything(toy, "--dry-run")
    assert told.exit_code == 0 and not (toy.folder / "runs").exists(), told.output
    where, *lines = told.output.splitlines()
    assert where.startswith("on ") and lines[0] == "toys: 5 experiments are for it, 3 can be trained here"
    assert lines[1].startswith("  1 cannot (paper/label): ") and "'mood'" in lines[1]
    assert lines[2] == "  1 lack streams: absent (1)"
    assert lines[3] == f"  to make them: emocache extract toys --data DIR --cache {toy.root} --stream absent"
    assert lines[4].startswith(
        "3 experiments: 9 runs to train, 0 stored; about 2 s with --jobs 1 (a guess), the cheapest"
    )
    done = everything(toy)
    assert done.exit_code == 0, done.output
    order = [line.split()[1] for line in done.output.splitlines() if line.startswith("[")]
    assert order == ["paper/quick", "paper/slow", "paper/both"]
    assert len([*(toy.folder / "runs").glob("paper/*/*/*/fold*")]) == 9 and "emocache evaluate" in done.output
    again = everything(toy, "--corpus", "toys")
    assert "3 experiments: 0 runs to train, 9 stored\n" in again.output and again.exit_code == 0


def test_everything_where_nothing_is_for_the_corpus(toy: "Toy") -> None:
    toy.cache()
    done = everything(toy)
    assert isinstance(done.exception, EmocacheError) and "nothing can be trained on toys" in str(done.exception)
    assert "toys: no experiment is for it; name one, such as `emocache train probe --corpus toys`" in done.output


def test_the_only_corpus_need_not_be_named(toy: "Toy") -> None:
    toy.cache()
    assert corpora_in(Cache(toy.root), []) == ["toys"]
    done = everything(toy, toy.experiment(), "--set", "training.epochs=1")
    assert done.exit_code == 0, done.exception
    for name in ("toys-whole", "other"):
        Cache(toy.root).put_manifest(Manifest.from_utterances(name, [Utterance("a")]))
    done = everything(toy, toy.experiment())
    assert done.exit_code == 2 and "the cache has other, toys, toys-whole" in done.stderr
    # Of a name that is not there, what it is packaged as.
    cache = Cache(toy.root)
    assert corpora_in(cache, ["toys"]) == ["toys"] and corpora_in(cache, ["toys"], True) == ["toys", "toys-whole"]
    cache.put_manifest(Manifest.from_utterances("sewa-basic", [Utterance("a")]))
    assert corpora_in(cache, ["sewa"]) == ["sewa-basic"]
    with pytest.raises(EmocacheError, match=r"has no corpus 'sew'; it has: other, sewa-basic, toys, toys-whole"):
        corpora_in(cache, ["sew"])


def test_an_experiment_for_another_corpus_says_what_there_is_for_this_one(toy: "Toy") -> None:
    cache = toy.cache()
    cache.put_manifest(Manifest.from_utterances("sewa", [Utterance("a", culture="DE", labels={"valence": 0.5})]))
    done = everything(toy, "paper1/video-rnn-valence", "--corpus", "sewa")
    assert isinstance(done.exception, EmocacheError)
    assert str(done.exception).endswith(
        "(paper1/video-rnn-valence is for sewa-basic; on sewa it is paper1/avec-de-hu-video-rnn-valence,"
        " paper1/avec-hu-de-video-rnn-valence, paper1/avec-video-rnn-valence)"
    )


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "1 s"), (89, "89 s"), (90, "2 min"), (5370, "90 min"), (7800, "2 h 10 min")]
)
def test_durations_are_told_in_one_or_two_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told.replace("90 min", "1 h 30 min")


@pytest.mark.parametrize("module", ["emocache.train", "emocache.train.cli"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'sklearn', 'pydantic', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
