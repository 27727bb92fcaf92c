"""The whole stage on a cache: completeness, missing features, label maps, leaks, run folders, resuming, jobs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from emocache.cache import Cache, EmocacheError, Manifest
from emocache.cache.device import choose_device
from emocache.evaluate.scoring.stored_predictions import read_predictions
from emocache.evaluate.scoring.stored_runs import read_run as discovered
from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Features
from emocache.train.data.memory import Memory
from emocache.train.data.reading import load_dataset
from emocache.train.data.shelf import Shelf
from emocache.train.fit import train_fold as fold_module
from emocache.train.fit.fold_result import FoldResult
from emocache.train.heads.head import FixedPooling
from emocache.train.inputs.joining import JoinedStreams
from emocache.train.inputs.prepared import Joined
from emocache.train.inputs.vectors import pool
from emocache.train.protocols.folds import Fold
from emocache.train.run import estimates, experiment_plan, processes
from emocache.train.run.crew import Asked, Crew, Outcome
from emocache.train.run.experiment_plan import Plan, find_leak, make_plan
from emocache.train.run.processes import Processes
from emocache.train.stored.run_folders import read_run

if TYPE_CHECKING:
    from .conftest import Toy


def plan_of(toy: "Toy", cache: Cache, *changes: str, allow_incomplete: bool = False, runs: str = "runs") -> Plan:
    settings: Settings = toy.settings("training.epochs=3", *changes)
    return make_plan(cache, ["toys"], toy.folder / runs, "small", settings, "cpu", allow_incomplete)


def trained(plan: Plan, jobs: int = 1) -> list[str]:
    with Crew(jobs) as crew:
        return list(crew.train(plan, plan.to_train()))


def stored(folder: Path) -> tuple[dict[str, Any], pa.Table, dict[str, Any]]:
    """run.json, predictions and weights."""
    return (
        json.loads((folder / "run.json").read_text()),
        pq.read_table(folder / "predictions.parquet"),
        load_file(folder / "weights.safetensors"),
    )


def same(one: Path, other: Path) -> bool:
    (_, table, weights), (_, other_table, other_weights) = stored(one), stored(other)
    return table.equals(other_table) and all(np.array_equal(weights[name], other_weights[name]) for name in weights)


def test_a_run_folder_holds_what_later_stages_need(toy: "Toy") -> None:
    plan = plan_of(toy, toy.cache(), "seeds=[0, 7]", "head.kind=recurrent", "head.hidden=4")
    assert len(trained(plan)) == 6
    folder = plan.folder(2, 7)
    assert folder == toy.folder / "runs/small/toys" / plan.setting / "fold2-seed7" and len(plan.setting) == 12
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.jsonl", "predictions.parquet", "run.json", "transforms.safetensors", "weights.safetensors"
    ]  # fmt: skip
    record, table, weights = stored(folder)
    assert (record["format"], record["experiment"], record["corpora"], record["task"]) == (
        1,
        "small",
        ["toys"],
        "classification",
    )
    assert record["classes"] == ["angry", "happy", "sad"] and record["targets"] == ["emotion"]
    assert (record["fold"], record["folds"], record["seed"], record["setting"]) == (2, 3, 7, plan.setting)
    assert record["streams"][0]["name"] == "toy" and len(record["streams"][0]["fingerprint"]) == 64
    assert record["protocol"]["name"] == "group_folds" and record["protocol"]["transductive"] is False
    assert record["coverage"] == {"test": 12, "predicted": 12, "missing": [], "enrolled": 0}
    assert record["manifests"] == {"toys": Cache(toy.root).manifest("toys").sha256}
    assert record["config"]["head"]["hidden"] == 4 and record["selection"]["metric"] == "accuracy"
    assert record["incomplete"] is record["transductive"] is False and record["dropped_classes"] == {}
    assert sum(record["prior"].values()) == pytest.approx(1) and record["seconds"] > 0 and record["versions"]["torch"]
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    rows = table.to_pylist()
    assert [row["part"] for row in rows] == ["valid"] * 12 + ["test"] * 12
    assert (
        {row["speaker"] for row in rows if row["part"] == "test"} == {"S5", "S6"} == {row["group"] for row in rows[12:]}
    )
    for row in rows:
        shares = [row[f"prob.{name}"] for name in record["classes"]]
        assert sum(shares) == pytest.approx(1) and record["classes"][int(np.argmax(shares))] == row["prediction"]
    assert weights["output.weight"].shape == (3, 8)
    assert set(load_file(folder / "transforms.safetensors")) == {"frames.normalise.mean", "frames.normalise.std"}


def test_complete_runs_are_kept_and_others_are_trained(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    cache = toy.cache()
    undisturbed = plan_of(toy, cache, runs="undisturbed")
    trained(undisturbed)

    killed = plan_of(toy, cache)
    real = fold_module.train_fold

    def dies_in_the_second_run(*arguments: Any) -> FoldResult:
        if killed.folder(0, 0).is_dir():
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(experiment_plan, "train_fold", dies_in_the_second_run)
    with pytest.raises(KeyboardInterrupt):
        trained(killed)
    monkeypatch.undo()
    # What a kill in the middle of a write leaves: a folder under a temporary name.
    half = killed.folder(1, 0).with_name(".fold1-seed0.abc.tmp")
    half.mkdir()
    (half / "run.json").write_text("{")

    resumed = plan_of(toy, cache)
    assert resumed.to_train() == [(1, 0), (2, 0)]
    before = killed.folder(0, 0).stat().st_mtime_ns
    trained(resumed)
    assert resumed.folder(0, 0).stat().st_mtime_ns == before and resumed.to_train() == []
    for number in range(3):
        assert same(undisturbed.folder(number, 0), resumed.folder(number, 0))


def test_a_run_that_another_process_stored_meanwhile_stays(toy: "Toy") -> None:
    plan = plan_of(toy, toy.cache())
    plan.train(0, 0)
    before = (plan.folder(0, 0) / "run.json").read_bytes()
    plan.train(0, 0)
    assert (plan.folder(0, 0) / "run.json").read_bytes() == before
    assert [path.name for path in plan.folder(0, 0).parent.iterdir()] == ["fold0-seed0"]


def test_runs_that_cannot_be_written_are_told(toy: "Toy") -> None:
    (toy.folder / "runs").write_text("a file")
    with pytest.raises(EmocacheError, match=r"run .*fold0-seed0 cannot be written: "):
        trained(plan_of(toy, toy.cache()))


def test_no_room_for_what_jobs_share_is_told(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("2153800 requested and 1572800 written")  # in NumPy's words

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(EmocacheError, match=r"--runs .*: the features that several processes share cannot be written"):
        trained(plan_of(toy, toy.cache()), jobs=2)


@pytest.mark.slow
def test_two_jobs_give_what_one_gives(toy: "Toy") -> None:
    cache = toy.cache()
    changes = ("head.kind=recurrent", "head.hidden=4", "head.dropout=0.3", "features.crop_s=0.4")
    one, two = plan_of(toy, cache, *changes, runs="one"), plan_of(toy, cache, *changes, runs="two")
    trained(one)
    assert len(trained(two, jobs=2)) == 3
    assert all(same(one.folder(number, 0), two.folder(number, 0)) for number in range(3))
    assert sorted(path.name for path in two.runs.iterdir()) == ["small"]  # no copy of the features stays


@pytest.mark.parametrize(("name", "data"), [("run.json", b""), ("run.json", b"{}x"), ("predictions.parquet", None)])
def test_a_run_that_was_damaged_is_not_taken_for_finished(toy: "Toy", name: str, data: bytes | None) -> None:
    plan = plan_of(toy, toy.cache(), "training.epochs=1")
    plan.train(0, 0)
    assert plan.to_train() == [(1, 0), (2, 0)]
    path = plan.folder(0, 0) / name
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(EmocacheError, match=rf"{name}: gone or damaged .*; delete the folder .*fold0-seed0 and run"):
        plan.to_train()


def test_predictions_of_another_run_are_noticed(toy: "Toy") -> None:
    plan = plan_of(toy, toy.cache(), "training.epochs=1")
    for fold in (0, 1):
        plan.train(fold, 0)
    one, other = (plan.folder(fold, 0) / "predictions.parquet" for fold in (0, 1))
    shutil.copyfile(one, other)
    with pytest.raises(EmocacheError, match="not the file that was written with"):
        read_run(other.parent)
    run = discovered(other.parent)
    with pytest.raises(EmocacheError, match=r"predictions.parquet: not the file that was written with run.json"):
        read_predictions(run, run.record.classes or ())


def test_an_empty_folder_is_no_run(toy: "Toy") -> None:
    plan = plan_of(toy, toy.cache())
    plan.folder(0, 0).mkdir(parents=True)
    assert (0, 0) in plan.to_train()
    plan.train(0, 0)
    assert stored(plan.folder(0, 0)) and (0, 0) not in plan.to_train()
    plan.folder(1, 0).mkdir()
    (plan.folder(1, 0) / "weights.safetensors").write_bytes(b"")
    with pytest.raises(EmocacheError, match="delete this folder, which holds no finished run"):
        plan.train(1, 0)


def test_features_that_a_killed_process_left_are_removed(toy: "Toy") -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    plan = plan_of(toy, toy.cache())
    prefix = f".features-{socket.gethostname()}-"
    names = [f"{prefix}{gone.pid}-abc", f"{prefix}{os.getpid()}-abc", f"{prefix}other-{gone.pid}-abc", ".features-abc"]
    for name in names:
        (plan.runs / name).mkdir(parents=True)
    trained(plan)
    assert {path.name for path in plan.runs.iterdir()} == {"small", *names[1:]}


def test_a_process_ends_with_its_parent() -> None:
    """All hold the pipe to here, so it ends only when the last of them does."""
    code = (
        "import os, signal; from concurrent.futures import ProcessPoolExecutor as Pool;"
        "from multiprocessing import get_context; from emocache.train.run.processes import end_with\n"
        "if __name__ == '__main__':\n"
        "    context = get_context('spawn'); theirs, lifeline = context.Pipe(duplex=False)\n"
        "    pool = Pool(1, context, end_with, (theirs,))\n"
        "    pool.submit(os.write, 1, b'ready\\n').result(); pool.submit(signal.pause).result()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        parent.kill()
        assert parent.communicate(timeout=60)[0] == b""


def test_jobs_share_what_was_made_of_the_streams(toy: "Toy", tmp_path: Path) -> None:
    plan = plan_of(toy, toy.cache(), "features.crop_s=0.3", "head.kind=recurrent")
    made = JoinedStreams(plan.dataset).of(plan.settings, "frames")
    folder = tmp_path / "shelf"
    folder.mkdir()
    light = processes.share(plan, Shelf(folder), 1)
    assert not len(light.plan.dataset.features["toy"].frames) and not len(light.inputs["frames"][0].frames)
    started, streams = light.open()
    again = streams.of(started.settings, "frames")
    assert isinstance(again.frames.base, np.memmap) and np.array_equal(again.frames, made.frames)
    assert np.array_equal(again.times, made.times) and np.array_equal(again.offsets, made.offsets)
    # What was made for one plan goes with it, and what was read with whoever reads it last.
    assert len([*folder.iterdir()]) == 2
    frames = plan.dataset.features["toy"].frames
    del plan
    assert [*folder.iterdir()] == [light.frames["toy"]]
    del frames
    assert not [*folder.iterdir()]


def test_folds_of_a_probe_share_the_means_of_their_frames(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(features: Joined, pooling: FixedPooling) -> Joined:
        made.append(pooling)
        return pool(features, pooling)

    monkeypatch.setattr("emocache.train.inputs.joining.pool", counted)
    plan = plan_of(toy, toy.cache(), "head.kind=probe", "seeds=[0, 1]", "search={'training.weight_decay'=[0.1, 1.0]}")
    trained(plan)
    assert len(plan.all_runs()) == 6 and made == ["mean"]


def test_as_many_processes_as_pay(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(toy, toy.cache(), "head.kind=recurrent")
    monkeypatch.setattr(estimates, "most_jobs", lambda: 8)
    assert estimates.default_jobs([replace(plan, device="cuda")]) == 1
    assert estimates.default_jobs([plan]) == 1  # three runs of milliseconds
    long = replace(plan, dataset=replace(plan.dataset, sizes={"toy": 10**9}))
    assert estimates.default_jobs([long]) == estimates.default_jobs([plan, long]) == 3
    assert estimates.default_jobs([replace(long, only=(1,))]) == 1 and estimates.default_jobs([]) == 1
    # The same once runs are stored: other shares of threads round otherwise.
    plan.train(0, 0)
    assert estimates.default_jobs([replace(long, runs=plan.runs)]) == 3
    pooled = plan_of(toy, toy.cache(), "head.kind=probe")
    wide = replace(pooled, dataset=replace(pooled.dataset, sizes={"toy": 10**9}, frames={"toy": 10**7}))
    assert estimates.guess(wide, 1) < 0.01 * estimates.guess(long, 1) + 1


def test_experiments_share_the_streams_that_they_read(toy: "Toy", tmp_path: Path) -> None:
    cache, room, shelf = toy.cache(), Memory(), Shelf(tmp_path)

    def plan(*changes: str) -> Plan:
        return make_plan(cache, ["toys"], toy.folder / "runs", "small", toy.settings(*changes), memory=room)

    one, same_, other = plan(), plan("training.epochs=3"), plan("labels={glad=['happy'], sad=['sad']}")
    assert same_.dataset.features["toy"] is one.dataset.features["toy"]
    assert other.dataset.features["toy"] is not one.dataset.features["toy"]
    assert processes.share(one, shelf, 2).frames == processes.share(same_, shelf, 2).frames
    assert processes.share(other, shelf, 2).frames != processes.share(one, shelf, 2).frames


class Unreadable(Mapping[str, Features]):
    """A stream whose frames are not those that were committed."""

    def __iter__(self) -> Iterator[str]:
        return iter(["toy"])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, name: str) -> Features:
        raise EmocacheError("damaged")


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_crew_goes_on_after_an_experiment_that_fails(toy: "Toy", jobs: int) -> None:
    """One cannot be read, one fails in its first run: the others give what they give alone, and nothing of it stays."""
    cache = toy.cache()
    fails = ("task=regression", "targets=intensity", "training.learning_rate=1e30")
    changes = ((), fails, ("head.kind=recurrent", "head.hidden=4"))
    alone = [plan_of(toy, cache, *changes[number], runs=f"alone{number}") for number in (0, 2)]
    for plan in alone:
        trained(plan, jobs)
    plans = [plan_of(toy, cache, *those, runs="together") for those in changes]
    dataset = replace(plans[0].dataset, features=Unreadable())
    unreadable = replace(plans[0], dataset=dataset, runs=toy.folder / "unreadable")
    with Crew(jobs) as crew:
        asked = ((plan, plan.to_train()) for plan in (*plans, unreadable))
        outcomes: list[Outcome] = list(crew.train_all(asked, 12))
    told = [[one for one in outcomes if one.number == number] for number in range(4)]
    assert [str(one.error) for one in told.pop()] == ["damaged"]
    assert [len(those) for those in told] == [3, 1, 3] and all(those[-1].last for those in told)
    assert [one.last for one in told[0]] == [False, False, True]
    assert "the training loss is" in str(told[1][0].error) and not any(one.error for one in told[0] + told[2])
    for plan, own in zip((plans[0], plans[2]), alone, strict=True):
        assert all(same(plan.folder(number, 0), own.folder(number, 0)) for number in range(3))
    assert sorted(path.name for path in (toy.folder / "together").iterdir()) == ["small"]


@pytest.mark.slow
def test_a_crew_goes_on_after_a_process_was_killed(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    cache = toy.cache()
    killed, other = plan_of(toy, cache), plan_of(toy, cache, "training.epochs=2")
    with Crew(2) as crew:
        outcomes = crew.train_all(((plan, plan.to_train()) for plan in (killed, other)), 6)
        first = next(outcomes)
        assert isinstance(crew._processes, Processes)
        for process in list(crew._processes._pool._processes.values()):
            process.kill()
        rest = list(outcomes)
    errors = [one for one in rest if one.error is not None]
    assert first.error is None and all("a training process was killed" in str(one.error) for one in errors)
    assert errors and errors[-1].last
    # What was stored counts, and the same command again trains the rest.
    for plan in (killed, other):
        trained(plan, 2)
        assert plan.to_train() == []


@pytest.mark.slow
def test_an_experiment_waits_for_room_beside_the_others(toy: "Toy") -> None:
    cache, room = toy.cache(), Memory()
    runs, order = toy.folder / "runs", []

    def asked() -> Iterator[Asked]:
        for labels in ("labels={}", "labels={glad=['happy'], sad=['sad']}"):
            settings = toy.settings("training.epochs=2", labels)
            plan = make_plan(cache, ["toys"], runs, "small", settings, memory=room)
            if labels == "labels={}":
                room.limit = int(1.5 * sum(plan.dataset.sizes.values()))
            yield plan, plan.to_train()

    with Crew(2) as crew:
        for outcome in crew.train_all(asked(), 6):
            order.append(outcome.number)
            assert outcome.error is None and room._held <= room.limit
    assert order == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_errors_in_a_job_arrive(toy: "Toy") -> None:
    plan = plan_of(toy, toy.cache(), "task=regression", "targets=intensity", "training.learning_rate=1e30")
    with pytest.raises(EmocacheError, match="the training loss is"):
        trained(plan, jobs=2)


def test_the_setting_changes_with_everything_but_fold_and_seed(toy: "Toy") -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus, failures=["spk1_0"])
    plain = plan_of(toy, cache).setting
    assert plain == plan_of(toy, cache, "seeds=[4, 5]", "description=other").setting
    for change in ("training.batch_size=4", "protocol.folds=6", "missing=intersect", "features.pca=2"):
        assert plain != plan_of(toy, cache, change).setting
    writer = cache.create_stream("toys", "toy", toy.recipe())
    from emocache.cache import Item

    writer.commit("cd" * 8, {"spk1_0": Item(corpus.frames["spk1_0"])})  # as --retry-failed does
    writer.finish()
    assert plain != plan_of(toy, cache).setting


def test_incomplete_streams_are_refused_or_marked(toy: "Toy") -> None:
    corpus = toy.corpus()
    some = type(corpus)(corpus.rows, {i: f for i, f in corpus.frames.items() if i not in ("spk2_1", "spk5_0")})
    cache = toy.cache(some)
    with pytest.raises(EmocacheError) as caught:
        plan_of(toy, cache)
    assert str(caught.value) == (
        "stream toys/toy is incomplete: 2 of 36 protocol utterances are neither extracted nor failed, such as 'spk2_1';"
        " run `emocache extract toys` again, or pass --allow-incomplete, which marks the runs"
    )
    plan = plan_of(toy, cache, allow_incomplete=True)
    trained(plan)
    record = stored(plan.folder(2, 0))[0]
    assert record["incomplete"] is True and record["coverage"]["missing"] == ["toys/spk5_0"]


def test_utterances_outside_the_protocol_may_be_missing(toy: "Toy") -> None:
    corpus = toy.corpus()
    some = type(corpus)(corpus.rows, {i: f for i, f in corpus.frames.items() if not i.endswith("_0")})
    cache = toy.cache(some)
    # Clips 0 and 3 are angry, and clip 0 is not extracted.
    plan = plan_of(toy, cache, "labels={glad=['happy'], sad=['sad']}")
    assert plan.dataset.dropped == {"angry": 12} and plan.dataset.classes == ("glad", "sad")
    assert not plan.dataset.incomplete


@pytest.mark.parametrize("policy", ["prior", "intersect", "error"])
def test_failed_test_utterances_follow_the_policy(toy: "Toy", policy: str) -> None:
    plan = plan_of(toy, toy.cache(failures=["spk1_0", "spk1_1", "spk4_2"]), f"missing={policy}")
    if policy == "error":
        with pytest.raises(EmocacheError, match="2 test utterances have no features, such as 'toys/spk1_0'; missing"):
            plan.train(0, 0)
        return
    plan.train(0, 0)
    record, table, _ = stored(plan.folder(0, 0))
    missing = ["toys/spk1_0", "toys/spk1_1"]
    assert record["coverage"] == {"test": 12, "predicted": 10, "missing": missing, "enrolled": 0}
    assert record["without_features"] == {"train": 0, "valid": 1}
    test = [row for row in table.to_pylist() if row["part"] == "test"]
    absent = [row for row in test if row["missing"]]
    if policy == "intersect":
        assert len(test) == 10 and not absent
        return
    assert len(test) == 12 and [row["id"] for row in absent] == ["spk1_0", "spk1_1"]
    for row in absent:
        assert {name: row[f"prob.{name}"] for name in record["classes"]} == record["prior"]
        assert row["reference"] in record["classes"]


@pytest.mark.parametrize("policy", ["prior", "intersect"])
def test_a_test_part_without_any_features(toy: "Toy", policy: str) -> None:
    failed = [f"spk{speaker}_{clip}" for speaker in (1, 2) for clip in range(6)]
    plan = plan_of(toy, toy.cache(failures=failed), f"missing={policy}")
    plan.train(0, 0)
    record, table, _ = stored(plan.folder(0, 0))
    assert record["coverage"]["predicted"] == 0 and table.num_rows == 12 + (12 if policy == "prior" else 0)
    kept = plan_of(toy, toy.cache(failures=failed), f"missing={policy}", "head.kind=cnn1d", "keep=embedding")
    kept.train(0, 0)
    assert set(pq.read_table(kept.folder(0, 0) / "kept.parquet")["part"].to_pylist()) == {"valid"}
    plan = plan_of(toy, toy.cache(failures=failed))
    with pytest.raises(EmocacheError, match="no validation utterance of a fold has features"):
        plan.train(2, 0)


def test_failed_test_utterances_score_the_prior_at_every_stamp(toy: "Toy") -> None:
    cache = toy.cache(failures=["spk1_0"])
    settings = toy.frame_settings("training.epochs=2")
    plan = make_plan(cache, ["toys"], toy.folder / "runs", "framewise", settings)
    plan.train(0, 0)
    record, table, _ = stored(plan.folder(0, 0))
    (row,) = [row for row in table.to_pylist() if row["missing"]]
    assert row["prediction.valence"] == [record["prior"]["valence"]] * len(row["times"])


def test_label_maps_merge_and_drop(toy: "Toy") -> None:
    plan = plan_of(toy, toy.cache(), "labels={bad=['angry', 'sad'], good=['happy']}")
    assert plan.dataset.classes == ("bad", "good") and plan.dataset.dropped == {}
    plan = plan_of(toy, toy.cache(), "labels={bad=['angry'], good=['happy']}")
    plan.train(0, 0)
    assert stored(plan.folder(0, 0))[0]["dropped_classes"] == {"sad": 12} and len(plan.dataset.examples) == 24


@pytest.mark.parametrize(
    ("change", "transductive"),
    [
        ("features.normalise=per_speaker", True),
        ("features.fit_scope=all", True),
        ("features.normalise=train", False),
        ("features.normalise=none", False),
    ],
)
def test_what_sees_test_features_is_labelled(toy: "Toy", change: str, transductive: bool) -> None:
    plan = plan_of(toy, toy.cache(), change)
    plan.train(0, 0)
    record = stored(plan.folder(0, 0))[0]
    assert record["transductive"] is record["protocol"]["transductive"] is transductive


@pytest.mark.parametrize("by", ["speakers", "ids"])
def test_a_stored_pca_that_saw_test_speakers_is_refused(toy: "Toy", by: str) -> None:
    cache = toy.cache()
    fitted = {"speakers": ["S3"], "ids": None} if by == "speakers" else {"speakers": None, "ids": ["spk3_1"]}
    projection = {"kind": "pca", "components": 2, "fit_on": "speaker=S3", "ids_sha256": "0" * 64, **fitted}
    frames = {i: f[:, :2] for i, f in toy.corpus().frames.items()}
    toy.commit(cache, "toys", "toy.pca2", frames, recipe=toy.recipe(dim=2, projection=projection))
    who = "speaker 'S3'" if by == "speakers" else "utterance 'spk3_1'"
    with pytest.raises(EmocacheError) as caught:
        plan_of(toy, cache, "streams=toy.pca2")
    assert str(caught.value).startswith(
        f"the PCA of stream toys/toy.pca2 was fitted on 'speaker=S3', which holds {who} of the test part of fold 1;"
    )
    assert plan_of(toy, cache, "streams=toy.pca2", "features.fit_scope=all").transductive
    fusing = ("head.kind=mha_fusion", "head.width=8", "head.heads=2", "streams={text=['toy'], audio=['toy.pca2']}")
    asked = plan_of(toy, cache, *fusing, "features.audio.fit_scope=all")
    assert asked.transductive and asked.settings.features.of("text").fit_scope == "train"
    with pytest.raises(EmocacheError, match=r"the PCA of stream toys/toy\.pca2 was fitted on"):
        plan_of(toy, cache, *fusing, "features.text.fit_scope=all")
    # S3 trains in the official split, so there the same stream leaks nothing.
    official = toy.settings("streams=toy.pca2")
    official = official.model_copy(update={"protocol": type(official.protocol)(name="official")})
    assert not make_plan(cache, ["toys"], toy.folder / "runs", "small", official).transductive


def test_a_speaker_of_another_corpus_is_no_leak(toy: "Toy") -> None:
    first = toy.corpus()
    cache = toy.cache(first)
    toy.cache(first, name="others")
    dataset = load_dataset(cache, ["toys", "others"], toy.settings())
    fitted = {"kind": "pca", "fit_on": "speaker=S3", "speakers": ["S3"], "ids": None}
    for corpus, leaks in (("toys", False), ("others", True)):
        source = replace(dataset.sources[0], corpus=corpus, projection=fitted)
        rows = np.array([row for row, e in enumerate(dataset.examples) if e.corpus == "others"])
        fold = Fold(np.setdiff1d(np.arange(len(dataset.examples)), rows), rows[:0], rows)
        assert (find_leak(replace(dataset, sources=[source]), [fold], {"toy"}) is not None) is leaks


def test_several_corpora_are_trained_as_one(toy: "Toy") -> None:
    cache = toy.cache()
    cache = toy.cache(toy.corpus(speakers=3, seed=1), name="more")
    plan = make_plan(cache, ["toys", "more"], toy.folder / "runs", "small", toy.settings("training.epochs=2"))
    plan.train(0, 0)
    folder = plan.folder(0, 0)
    assert folder.parts[-3] == "toys+more"
    record, table, _ = stored(folder)
    assert set(record["manifests"]) == {"toys", "more"} == set(table["corpus"].to_pylist())
    with pytest.raises(EmocacheError, match="a corpus is named twice: toys, toys"):
        make_plan(cache, ["toys", "toys"], toy.folder / "runs", "small", toy.settings())
    toy.commit(cache, "more", "other", toy.corpus(3, seed=1).frames, recipe=toy.recipe("b"))
    toy.commit(cache, "toys", "other", toy.corpus().frames, recipe=toy.recipe("a"))
    with pytest.raises(EmocacheError, match="the corpora's streams have different recipes: toys/other@"):
        make_plan(cache, ["toys", "more"], toy.folder / "runs", "small", toy.settings("streams=other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("targets=mood", "corpus 'toys' has no column 'mood'; it has: speaker"),
        ("targets=intensity", "target 'intensity' holds numbers; classification needs text"),
        ("labels={a=['b']}", r"no utterance of toys has emotion; the label map drops \{'angry': 12"),
        ("streams=tou", "corpus 'toys' has no stream 'tou'; did you mean 'toy'\\? it has: toy@"),
    ],
)
def test_wrong_targets_and_streams_are_told(toy: "Toy", change: str, message: str) -> None:
    with pytest.raises(EmocacheError, match=message):
        plan_of(toy, toy.cache(), change)


def test_wrong_tracks_are_told(toy: "Toy") -> None:
    cache = toy.cache()
    with pytest.raises(EmocacheError, match="corpus 'toys' has no track 'arousal'; it has: valence; set targets to"):
        make_plan(cache, ["toys"], toy.folder, "framewise", toy.frame_settings("targets=arousal"))
    settings = toy.settings("task=regression", "targets=emotion")
    with pytest.raises(EmocacheError, match="target 'emotion' holds text; regression of it needs numbers"):
        make_plan(cache, ["toys"], toy.folder, "small", settings)


def test_utterances_without_a_label_are_left_out(toy: "Toy") -> None:
    corpus = toy.corpus()
    first = corpus.rows[0]
    corpus.rows[0] = type(first)(first.id, speaker=first.speaker)
    plan = plan_of(toy, toy.cache(corpus))
    assert plan.dataset.unlabelled == 1 and len(plan.dataset.examples) == 35


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "cpu" == choose_device("cpu")
    with pytest.raises(EmocacheError, match=r"device 'cuda': .*; use --device cpu"):
        choose_device("cuda")


def test_manifest_changes_give_new_runs(toy: "Toy") -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    before = plan_of(toy, cache).setting
    cache.put_manifest(Manifest.from_utterances("toys", corpus.rows[1:]))
    assert plan_of(toy, cache).setting != before
