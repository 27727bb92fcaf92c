"""Layers of an encoder by one word: the same experiment as with the names written out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from emocache.cache import Cache, EmocacheError
from emocache.cli import app
from emocache.train.config import layer_words
from emocache.train.config.experiment_files import sweep_override
from emocache.train.config.loading import load_settings
from emocache.train.config.settings import Settings
from emocache.train.run.request import Request

from .conftest import EXPERIMENT
from .test_setting_hash import hashed

if TYPE_CHECKING:
    from .conftest import Toy

LAYERS = {"deep": 4, "deep-text": 2, "flat": 0}
OPEN = EXPERIMENT.replace('streams = ["toy"]\n', "")
PAIR = """
targets = ["emotion"]
[protocol]
name = "group_folds"
folds = 3
[head]
kind = "mdre"
"""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_words, "known_layers", lambda: LAYERS)


def written(toy: "Toy", streams: str, search: str = "", base: str = OPEN) -> Settings:
    """The settings of an experiment whose streams, and those of its search, are written in this way."""
    return load_settings(toy.experiment(f"{streams}\n{base}\n{search}", "written"))[1]


def deep_cache(toy: "Toy", layers: Sequence[str] = ("deep.L0", "deep.L1", "deep.L2", "deep.L3", "deep")) -> Cache:
    """Layers that differ, so that it matters which are read."""
    corpus = toy.corpus(separation=0.5)
    cache = toy.cache(corpus)
    for number, name in enumerate(layers):
        frames = {key: values[:, number % 3 :] * (number + 1) for key, values in corpus.frames.items()}
        toy.commit(cache, "toys", name, frames, recipe=toy.recipe(name, 8 - number % 3))
    return cache


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ('{encoder = "deep", layers = "all"}', ["deep.L0", "deep.L1", "deep.L2", "deep.L3", "deep"]),
        ('{encoder = "deep", layers = [3, 1, "last"]}', ["deep.L3", "deep.L1", "deep"]),
        ('{encoder = "deep", layers = [4, 0]}', ["deep", "deep.L0"]),  # the last by its number
        ('{encoder = "deep", layers = "last"}', ["deep"]),
        ('{encoder = "deep", layers = 2}', ["deep.L2"]),
        ('{encoder = "unheard", layers = [7, "last"]}', ["unheard.L7", "unheard"]),
        ('{encoder = "deep", layers = [1, "last"], pca = 8}', ["deep.L1.pca8", "deep.pca8"]),
        (
            '{encoder = "deep-text.from-whisper-base", layers = "all"}',
            ["deep-text.from-whisper-base.L0", "deep-text.from-whisper-base.L1", "deep-text.from-whisper-base"],
        ),
        (
            '["mfcc", {encoder = "deep", layers = [1, 2]}, {encoder = "deep-text", layers = [0]}]',
            ["mfcc", "deep.L1", "deep.L2", "deep-text.L0"],
        ),
    ],
)
def test_layers_are_the_names_of_their_streams(toy: "Toy", words: str, names: list[str]) -> None:
    assert written(toy, f"streams = {words}") == written(toy, f"streams = {names}")
    assert written(toy, f"streams = {words}").streams == {"frames": tuple(names)}


def test_each_input_has_layers_of_its_own(toy: "Toy") -> None:
    words = '[streams]\naudio = {encoder = "deep", layers = [1, "last"]}\ntext = ["w", {encoder = "x", layers = 1}]\n'
    settings = written(toy, "", words, PAIR)
    assert settings.streams == {"audio": ("deep.L1", "deep"), "text": ("w", "x.L1")}


def test_a_search_tries_each_layer_alone_or_side_by_side(toy: "Toy") -> None:
    words = '[search]\nstreams = {encoder = "deep", layers = [1, "last"]}'
    assert written(toy, 'streams = "toy"', words).search == {"streams": ("deep.L1", "deep")}
    words = '[search]\nstreams = ["toy", {encoder = "deep", layers = "all"}, ["toy", {encoder = "deep", layers = 1}]]'
    names = ["deep.L0", "deep.L1", "deep.L2", "deep.L3", "deep"]
    assert written(toy, 'streams = "toy"', words).search == {"streams": ("toy", names, ["toy", "deep.L1"])}
    words = '[streams]\naudio = "a"\ntext = "t"\n[search]\nstreams.audio = {encoder = "deep", layers = [0, "last"]}'
    assert written(toy, "", words, PAIR).search == {"streams.audio": ("deep.L0", "deep")}
    swept = sweep_override('streams={encoder="deep", layers=[1, 2]}')
    assert load_settings(toy.experiment(), [swept])[1].search == {"streams": ("deep.L1", "deep.L2")}


def test_a_file_that_extends_another_changes_layers_or_names_streams(toy: "Toy") -> None:
    toy.experiment('streams = {encoder = "deep", layers = [1, 2]}\n' + OPEN, "base")
    for own, names in (
        ("streams.layers = 3", ("deep.L3",)),
        ('streams = {encoder = "other"}', ("other.L1", "other.L2")),
        ('streams = "toy"', ("toy",)),
    ):
        assert load_settings(toy.experiment(f'extends = "base"\n{own}\n', "child"))[1].stream_names == names
    roles = '[streams]\naudio = "a"\ntext = "t"\n'
    toy.experiment(PAIR + roles, "pair")
    child = 'extends = "pair"\nstreams = {encoder = "deep", layers = 1}\nhead = {kind = "probe"}\n'
    assert load_settings(toy.experiment(child, "child"))[1].streams == {"frames": ("deep.L1",)}
    child = f'extends = "base"\nhead = {{kind = "mdre"}}\n{roles}'
    assert load_settings(toy.experiment(child, "child"))[1].streams == {"audio": ("a",), "text": ("t",)}
    # What is given by hand is not searched.
    base = toy.experiment('streams = "toy"\n' + OPEN + '[search]\nstreams = ["toy", "deep"]\n', "searched")
    settings = load_settings(base, ['streams={encoder="deep", layers=1}', "streams.layers=all"])[1]
    assert settings.search == {} and len(settings.stream_names) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            'encoder = "deep", layers = "al"',
            "layer 'al' of 'deep' is neither a number nor \"last\"; did you mean 'all'",
        ),
        ('encoder = "deep", layers = ["all"]', "layer 'all' of 'deep' is neither .*; give layers = \"all\", or such"),
        ('encoder = "deep", layers = [1.5]', "layer 1.5 of 'deep' is neither"),
        ('encoder = "deep", layers = [true]', "layer True of 'deep' is neither"),
        ('encoder = "deep", layers = [[1]]', r"layer \[1\] of 'deep' is neither"),
        ('encoder = "deep", layers = []', "no layer of 'deep' is named; give layers = \"all\""),
        ('encoder = "deep", layers = [1, 2, 1]', "layer 1 of 'deep' is named twice; name each once"),
        ('encoder = "deep", layers = ["last", 4]', "layer 4, which is \"last\", of 'deep' is named twice"),
        ('encoder = "deep", layers = [5]', "there is no layer 5: 'deep' has layers 0 to 4; the last is \"last\""),
        ('encoder = "unheard", layers = -1', "there is no layer -1: layers are numbered from 0"),
        ('encoder = "flat", layers = "all"', "encoder 'flat' has no layers; name its stream: \"flat\""),
        ('encoder = "deep"', "which layers of 'deep' is not set; set layers = \"all\", or such as"),
        ('layers = "all"', 'the encoder is not set; name one, such as encoder = "whisper-base"'),
        ('encoder = "", layers = "all"', "encoder is ''; name one"),
        ('encoder = ["deep", "flat"], layers = 1', r"encoder is \['deep', 'flat'\]; name one.*; layers of several are"),
        (
            'encoder = "deep.L3", layers = 1',
            "'deep.L3' is the name of a stream; set encoder = \"deep\", and its layers",
        ),
        ('encoder = "deep@0123", layers = 1', "'deep@0123' is the name of a stream"),
        ('encodr = "deep", layers = 1', "unknown setting 'encodr'; did you mean 'encoder'"),
        ('encoder = "deep", audio = "mfcc"', "unknown setting 'audio'; layers are told by encoder, layers, pca"),
        ('encoder = "deep", layers = 1, pca = 0', "pca is 0; give the components of streams such as deep.L3.pca64"),
        ('encoder = "deeep", layers = "all"', "number of layers of 'deeep' is not known here, .* did you mean 'deep'"),
    ],
)
def test_wrong_layers_are_told_with_the_file_and_a_remedy(toy: "Toy", words: str, told: str) -> None:
    for text in (f"streams = {{{words}}}", f'streams = ["toy", {{{words}}}]'):
        with pytest.raises(EmocacheError, match=f"written.toml: streams: .*{told}"):
            written(toy, text)
    with pytest.raises(EmocacheError, match=f"written.toml: search.streams: .*{told}"):
        written(toy, 'streams = "toy"', f"[search]\nstreams = {{{words}}}")


def test_a_model_of_ones_own_is_not_the_known_one_of_that_name(toy: "Toy") -> None:
    own = '[encoders]\ndeep = "lab/deeper"'
    assert written(toy, 'streams = {encoder = "deep", layers = [9]}', own).stream_names == ("deep.L9",)
    cache = deep_cache(toy, ["deep.L12", "deep.L3", "deep", "deep.L3.pca8"])
    path = toy.experiment(f'streams = {{encoder = "deep", layers = "all"}}\n{OPEN}\n{own}', "own")
    with pytest.raises(EmocacheError, match=r'write them out: the cache has layers = \[3, 12, "last"\]'):
        Request(cache, ["toys"], toy.folder / "runs").experiment(path)


def train(toy: "Toy", streams: str, runs: str = "runs") -> Result:
    where = ["--corpus", "toys", "--cache", str(toy.root), "--runs", str(toy.folder / runs), "--jobs", "1"]
    short = ["--set", f"streams={streams}", "--set", "training.epochs=2"]
    return CliRunner().invoke(app, ["train", toy.experiment(), *where, *short])


def test_runs_are_those_of_the_names_written_out(toy: "Toy") -> None:
    deep_cache(toy)
    names = '["deep.L0", "deep.L1", "deep.L2", "deep.L3", "deep"]'
    words = '{encoder = "deep", layers = "all"}'
    path = toy.experiment()
    assert hashed(path, f"streams={words}") == hashed(path, f"streams={names}") != hashed(path, "streams=deep")
    done = train(toy, words)
    assert done.exit_code == 0 and "3 trained, 0 reused" in done.output, done.output
    assert "0 trained, 3 reused" in train(toy, names).output
    assert "3 trained, 0 reused" in train(toy, names, "anew").output
    first, second = (
        {file.relative_to(toy.folder / runs): pq.read_table(file) for file in (toy.folder / runs).rglob("*.parquet")}
        for runs in ("runs", "anew")
    )
    assert first == second and len(first) >= 3


def test_layers_that_the_cache_lacks_are_told_with_one_command_for_all(toy: "Toy") -> None:
    deep_cache(toy, ["deep.L1", "deep"])
    done = train(toy, '{encoder = "deep", layers = "all"}')
    assert done.exit_code == 1
    assert "corpus 'toys' has no stream 'deep.L0' and 2 more of what is read; extract them with" in done.output
    assert "extract toys --stream deep.L0 --stream deep.L2 --stream deep.L3 --cache" in done.output
