"""What a run says it has read is what it has read: damage in a stream stops training, and names the utterance."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from emocache.cache import Cache
from emocache.cache.sealed import DamagedError
from emocache.cli import app
from emocache.train.run.crew import Crew
from emocache.train.run.experiment_plan import make_plan

if TYPE_CHECKING:
    from .conftest import Toy


def flip(root: Path, bits: int) -> None:
    """Flip low bits of the payload of the stream "toy", so that its numbers change and stay finite."""
    [path] = root.glob("toys/toy@*/shards/*.zarr/frames/c/0/0")
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    frames = data[: len(data) // 4 * 4].view(np.uint32)
    count = len(frames) - 16  # not the codec's index at the end
    for bit in range(-(-bits // count)):
        frames[: min(count, bits - bit * count)] ^= np.uint32(1 << bit)
    path.write_bytes(data.tobytes())


def call(toy: "Toy", *more: str) -> Any:
    common = ["--corpus", "toys", "--cache", str(toy.root), "--runs", str(toy.folder / "runs")]
    return CliRunner().invoke(app, ["train", toy.experiment(), *common, "--set", "training.epochs=2", *more])


@pytest.mark.parametrize("more", [(), ("--jobs", "2")])
def test_training_on_flipped_bits_is_refused(toy: "Toy", more: tuple[str, ...]) -> None:
    """48,000 finite bits: every number is another, none is odd, and no run may bear the digest of the clean stream."""
    corpus = toy.corpus(speakers=6, clips=40)
    toy.cache(corpus)
    flip(toy.root, 48_000)
    done = call(toy, *more)
    assert done.exit_code == 1 and not list((toy.folder / "runs").rglob("run.json"))
    told = done.output.splitlines()[-1]
    [named] = re.findall(rf"toys/toy: utterance '(\w+)': its bytes in {toy.root}/toys/toy@", told)
    assert named in corpus.frames
    assert f"`emocache cache verify --full {toy.root}` tells what is damaged" in told
    found = CliRunner().invoke(app, ["cache", "verify", "--full", str(toy.root)])
    assert found.exit_code == 1 and f" {named} " in found.output


def test_one_bit_of_one_item_is_enough(toy: "Toy") -> None:
    toy.cache()
    flip(toy.root, 1)
    assert call(toy).exit_code == 1


def test_runs_that_are_stored_read_nothing(toy: "Toy") -> None:
    """What was certified when it was read stays so; and the next run over it is refused."""
    toy.cache()
    assert call(toy).exit_code == 0
    flip(toy.root, 100)
    again = call(toy)
    assert again.exit_code == 0 and "0 trained, 3 reused" in again.output
    assert call(toy, "--set", "seeds=[1]").exit_code == 1


def test_a_stream_that_nothing_asked_for_is_read_before_it_is_told(toy: "Toy", monkeypatch: pytest.MonkeyPatch) -> None:
    cache = toy.cache()
    plan = make_plan(cache, ["toys"], toy.folder / "runs", "small", toy.settings("training.epochs=1"))
    list(Crew(1).train(plan, [(0, 0)]))
    record = json.loads((plan.folder(0, 0) / "run.json").read_text())
    assert record["item_digest"] == plan.dataset.item_digest
    flip(toy.root, 1)
    plan = make_plan(
        Cache(toy.root), ["toys"], toy.folder / "runs", "small", toy.settings("training.epochs=1", "seeds=[5]")
    )
    monkeypatch.setattr(
        "emocache.train.run.experiment_plan.train_fold", lambda *_: None
    )  # a head that looks at no frame
    with pytest.raises(DamagedError, match="utterance 'spk1_0': its bytes in"):
        plan.train(0, 5)
    assert not plan.folder(0, 5).exists()


def test_an_experiment_without_streams_names_those_of_the_cache(toy: "Toy") -> None:
    corpus = toy.corpus()
    cache = toy.cache(corpus)
    toy.streams(cache, corpus)
    words = cache.create_stream("toys", "said", {"kind": "table", "encoder": "said", "layer": None, "inputs": ["text"]})
    words.commit("00", {"spk1_0": {"text": "hm"}})
    probe = ["train", "probe", "--corpus", "toys", "--runs", str(toy.folder / "runs")]
    done = CliRunner().invoke(app, [*probe, "--cache", str(toy.root)])
    told = " ".join(done.output.split())
    assert done.exit_code == 1 and "no streams; say which to train on, such as --set 'streams=[\"picture\"]'" in told
    assert "the cache has: picture, slow, toy, vector, words" in told and "whisper-base" not in told
    absent = CliRunner().invoke(app, [*probe, "--cache", str(toy.folder / "none")])
    assert absent.exit_code == 1 and "none does not exist; give the folder" in " ".join(absent.output.split())
