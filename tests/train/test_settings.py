"""Experiments as typed settings, and what a mistake in one is told."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emocache.cache import EmocacheError
from emocache.train.config.experiment_files import open_experiment, sweep_override
from emocache.train.config.experiment_names import EXPERIMENTS, each_experiment, experiment_names
from emocache.train.config.fusion_settings import FusionSettings
from emocache.train.config.loading import load_experiment, load_settings
from emocache.train.config.search import search_points
from emocache.train.config.settings import Settings
from emocache.train.run.request import Request

from .conftest import EXPERIMENT

if TYPE_CHECKING:
    from .conftest import Toy


@pytest.mark.parametrize("name", experiment_names())
def test_shipped_experiments_are_valid(name: str) -> None:
    open_streams = not {"streams", "fusion"} & set(open_experiment(name).values)
    found, path, settings = load_experiment(name, ['streams=["any"]'] if open_streams else [])
    assert found == name and settings.description and "{" not in settings.description
    assert path.is_file() and name.startswith(path.relative_to(EXPERIMENTS).with_suffix("").as_posix())
    if isinstance(settings, FusionSettings):
        assert set(settings.fusion.members) <= set(experiment_names())


def test_overrides_are_toml_values_or_text(toy: "Toy") -> None:
    changes = [
        "training.epochs=7",
        "seeds=[3, 4]",
        "streams=mfcc",
        "labels.glad=['happy', 'exc']",
        "head.pooling=mean_std",
    ]
    settings = toy.settings(*changes)
    assert settings.training.epochs == 7 and settings.seeds == (3, 4) and settings.stream_names == ("mfcc",)
    assert settings.labels == {"glad": ("happy", "exc")}
    assert settings.head.model_dump() == {"kind": "probe", "pooling": "mean_std"}


def test_a_head_of_another_kind_replaces_the_old_one(toy: "Toy") -> None:
    settings = toy.settings("head.pooling=mean_std", "head.kind=recurrent", "head.hidden=5")
    assert settings.head.model_dump()["hidden"] == 5 and settings.head.model_dump()["pooling"] == "mean"


def test_extends_merges_tables(toy: "Toy") -> None:
    toy.experiment(name="base")
    path = toy.experiment('extends = "base"\nseeds = [5]\n[training]\nepochs = 2\n', "child")
    settings = load_settings(path)[1]
    assert settings.seeds == (5,) and settings.training.epochs == 2 and settings.training.batch_size == 8


def test_each_is_an_experiment_for_each_value(toy: "Toy") -> None:
    toy.experiment(
        'extends = "probe-base"\ndescription = "of {targets}"\neach = { targets = ["joy", "fear"] }\n', "pair"
    )
    toy.experiment(name="probe-base")
    folder = Path(toy.experiment('extends = "pair"\nseeds = [7]\n', "again")).parent
    toy.experiment('extends = "pair-fear"\nseeds = [8]\n', "one")
    names = ("pair-joy", "pair-fear", "again-fear", "one")
    loaded = [load_experiment(str(folder / f"{name}.toml")) for name in names]
    assert [one.name for one in loaded] == list(names)
    told = [(s.targets, s.description, s.seeds) for one in loaded if isinstance(s := one.settings, Settings)]
    assert [one[:2] for one in told] == [((t,), f"of {t}") for t in ("joy", "fear", "fear", "fear")]
    assert [one[2] for one in told[2:]] == [(7,), (8,)]
    assert each_experiment(str(folder / "again.toml")) == [str(folder / f"again-{t}.toml") for t in ("joy", "fear")]
    with pytest.raises(
        EmocacheError, match=r"stands for several experiments; name one of .*pair-joy.toml, .*pair-fear"
    ):
        load_experiment(str(folder / "pair.toml"))
    with pytest.raises(EmocacheError, match=r"experiment file '.*pair-awe.toml' does not exist"):
        load_experiment(str(folder / "pair-awe.toml"))


@pytest.mark.parametrize(
    "each", ["3", "{ targets = [] }", "{ targets = [1] }", "{ a = ['x'], b = ['y'] }", "{ t = ['../x'] }"]
)
def test_each_must_be_one_setting_with_values(toy: "Toy", each: str) -> None:
    path = toy.experiment(f'extends = "probe"\neach = {each}\n', "wrong")
    with pytest.raises(EmocacheError, match=r"wrong.toml: each is .*; give one setting with the values"):
        load_experiment(path)


def test_the_members_of_a_fusion_can_differ(toy: "Toy") -> None:
    toy.experiment('extends = "probe"\nstreams = "s"\neach = { targets = ["joy", "fear"] }\n', "single")
    text = 'each = { targets = ["joy"] }\n[fusion]\nmembers = ["single-{targets}", "probe"]\nrule = "vote"\n'
    fusion = load_experiment(toy.experiment(text, "votes").replace("votes", "votes-joy")).settings
    assert isinstance(fusion, FusionSettings) and fusion.fusion.members == ("single-joy", "probe")


def test_the_name_of_a_file_of_several_is_all_of_them() -> None:
    assert each_experiment("paper1/av-cats") == ["paper1/av-cats-valence", "paper1/av-cats-arousal"]
    assert each_experiment("paper1/av-cats-valence") == ["paper1/av-cats-valence"]
    assert each_experiment("probe") == ["probe"] and each_experiment("nonesuch") == ["nonesuch"]


def test_a_file_of_ones_own_with_the_name_that_it_extends_is_told_to_be_renamed(toy: "Toy") -> None:
    path = toy.experiment('extends = "probe"\n', "probe")
    with pytest.raises(EmocacheError, match=r"give the file another name, such as my-probe.toml"):
        load_settings(path)
    toy.experiment('extends = "probe"\nstreams = ["toy"]\n', "my-probe")
    Path(path).unlink()
    load_settings(str(Path(path).with_name("my-probe.toml")))


def test_extends_in_a_circle_is_told(toy: "Toy") -> None:
    toy.experiment('extends = "b"\n', "a")
    path = toy.experiment('extends = "a"\n', "b")
    with pytest.raises(EmocacheError, match=r"extends itself: .*/b.toml -> .*/a.toml -> .*/b.toml; take out one"):
        load_settings(path)
    with pytest.raises(EmocacheError, match="extends itself"):  # by paths that get longer and longer
        load_settings(toy.experiment(f'extends = "../{toy.folder.name}/c"\n', "c"))


def test_search_is_the_product_of_its_lists(toy: "Toy") -> None:
    settings = toy.settings("search.training.epochs=[1, 2]", "search.streams=[['toy'], ['toy', 'more']]")
    points = list(search_points(settings))
    assert [chosen["training.epochs"] for chosen, _ in points] == [1, 1, 2, 2]
    assert points[1][1].stream_names == ("toy", "more") and points[2][1].training.epochs == 2
    assert len(list(search_points(toy.settings()))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "training.lerning_rate=0.1",
            r"unknown setting 'training.lerning_rate'; did you mean 'training.learning_rate'\?",
        ),
        ("label=emotion", r"unknown setting 'label'; did you mean 'targets'\?"),
        ("lr=0.1", r"unknown setting 'lr'; did you mean 'training.learning_rate'\?"),
        ("learning_rate=0.1", r"unknown setting 'learning_rate'; did you mean 'training.learning_rate'\?"),
        ("protocol.flods=3", r"unknown setting 'protocol.flods'; did you mean 'protocol.folds'\?"),
        ("head.poolin=mean", r"unknown setting 'head.poolin'; did you mean 'head.pooling'\?"),
        ("head.zzz=1", "unknown setting 'head.zzz'; it can be: head.kind, head.pooling"),
        ("head.kind=forest", "head.kind 'forest' is unknown; the heads are: .*probe, recurrent, transformer"),
        ("features.crop=2", r"unknown setting 'features.crop'; did you mean 'features.crop_s'\?"),
        ("features.frames.normalize=none", r"'features.frames.normalize'; did you mean 'features.frames.normalise'\?"),
        ("features.frames.pca=0", r"features.frames.pca: .*greater than or equal to 1 \(found 0\)"),
        ("features.audio.pca=2", "features.audio is neither a setting .* nor an input of head 'probe'"),
        ("streams.text=toy", "head 'probe' takes frames; the streams are for text; set streams = "),
        ("auxiliary=gender", "head 'probe': leave auxiliary out"),
        ("targets=['emotion', 'age']", "classification takes one target"),
        ("training.epochs=ten", r"training.epochs: Input should be a valid integer.* \(found 'ten'\)"),
        ("training.epochs=0", r"training.epochs: .*greater than or equal to 1 \(found 0\)"),
        ("task=regression", r"selection.metric|loss.kind|regression"),
        ("loss.kind=ccc", "loss.kind 'ccc' does not fit task 'classification'"),
        ("selection.metric=ccc", "selection.metric 'ccc' does not fit task 'classification'"),
        (
            "protocol.name=speaker_fold",
            "protocol.name: Input should be 'leave_one_out', 'group_folds', 'random_folds',"
            r" 'official', 'transfer' or 'file' \(found 'speaker_fold'\)",
        ),
        ("protocol.stratify=true", "stratify belongs to random_folds"),
        ("protocol.train_on=all", "train_on belongs to transfer, not to group_folds"),
        ("protocol.test_on=all", "test_on belongs to official and transfer, not to group_folds"),
        ("head.kind=['probe']", r"head.kind \['probe'\] is unknown; the heads are: "),
        ("task=foo", "task 'foo' is unknown; it can be: classification, regression, frame_regression, distribution"),
        ("task=['regression']", r"task \['regression'\] is unknown"),
        ("training=3", r"training: Input should be a table, \[training\] \(found 3\)"),
        ("labels=3", r"labels: Input should be a table, \[labels\] \(found 3\)"),
        ("seeds=3", r"seeds: Input should be a list \(found 3\)"),
        (
            f"search={{training.epochs={list(range(1, 41))}, training.patience={list(range(1, 41))}}}",
            r"small.toml.*: search: 1600 combinations of training.epochs, training.patience, .*at most 1000",
        ),
        (
            "search.training.eppochs=[1]",
            r"\[search\]: unknown setting 'training.eppochs'; did you mean 'training.epochs'\?",
        ),
        ("search.protocol.folds=[3, 4]", "'protocol.folds' cannot be searched: it would change what is scored"),
        ("search.training.epochs=[]", "search.training.epochs lists no value"),
        ("search.features=[{pca=2}, {pca=3}]", "'features' is a table and cannot be searched; name one of its"),
        (
            "search={features={frames=[{normalise='per_speaker'}]}}",
            "'features.frames' is a table and cannot be searched",
        ),
        (
            "search.features.normalise=['per_speaker']",
            "'features.normalise' cannot be searched: it decides what may see",
        ),
        ("label_delay_s=2", "label_delay_s shifts time-stamped labels"),
        ("training.epochs", "--set 'training.epochs' is not KEY=VALUE"),
        ("streams=[]", "streams.*name at least one"),
        ("labels={a=['x'], b=['y', 'x']}", "labels: 'x' belongs to several classes"),
        ("training.clip_norm=inf", "training.clip_norm: Input should be a finite number"),
        ("protocol.seed=-1", "protocol.seed: Input should be greater than or equal to 0"),
        ("seeds=[1, 0, 1]", "seeds names 1 twice; name each once"),
        ("seeds=[]", r"seeds: List should have at least 1 item \(found \[\]\)"),
        ("head.hidden=3", "unknown setting 'head.hidden'; it can be: head.kind, head.pooling"),
        ("trainng.epochs=3", r"small\.toml \(--set\): unknown setting 'trainng'; did you mean 'training'\?"),
        ("seeds=[-1]", "seeds.0: Input should be greater than or equal to 0"),
    ],
)
def test_mistakes_are_told_in_one_line(toy: "Toy", change: str, message: str) -> None:
    if change == "task=regression":
        toy.settings(change)  # defaults follow the task
        return
    with pytest.raises(EmocacheError, match=message) as caught:
        toy.settings(change)
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)
    assert "small.toml" in str(caught.value) or "--set 'training.epochs'" in str(caught.value)


def test_a_list_without_quotes_is_told() -> None:
    """The shell takes the quotes away."""
    with pytest.raises(EmocacheError, match=r"--set 'streams=\[a.L5\]' is not TOML: .* --set 'streams=\[\"...\"\]'"):
        open_experiment("probe", ["streams=[a.L5]"])
    with pytest.raises(EmocacheError, match=r"--sweep 'head.kind=\[a\]' is not TOML: .* --sweep 'head.kind="):
        sweep_override("head.kind=[a]")
    with pytest.raises(EmocacheError, match=r"--sweep 'head.kind' is not KEY=\[VALUE, ...\], such as"):
        sweep_override("head.kind")


def test_another_protocol_takes_over_only_what_it_knows(toy: "Toy") -> None:
    assert toy.settings("protocol.name=official").protocol.folds is None
    assert toy.settings("protocol.name=random_folds").protocol.folds == 3
    transfer = ["protocol.name=transfer", "protocol.train_on='speaker=S1'", "protocol.test_on='speaker=S2'"]
    assert toy.settings(*transfer).protocol.test_on == "speaker=S2"
    assert toy.settings(*transfer, "protocol.name=official").protocol.test_on is None
    after = toy.settings("protocol.group=session", *transfer, "protocol.name=leave_one_out").protocol
    assert (after.train_on, after.group) == (None, "session")
    drawn = toy.settings("protocol.validation=random_utterance", "protocol.name=leave_one_out").protocol
    assert drawn.validation == "next"  # who validates is for a protocol to say
    with pytest.raises(EmocacheError, match="official decides the number of folds itself"):
        toy.settings("protocol.name=official", "protocol.folds=3")


def test_label_maps_given_by_hand_replace_the_file_s(toy: "Toy") -> None:
    path = toy.experiment(EXPERIMENT.replace("[head]", '[labels]\nold = ["angry"]\n[head]'), "mapped")
    assert load_settings(path, ["labels={bad=['angry', 'sad'], good='happy'}"])[1].labels == {
        "bad": ("angry", "sad"),
        "good": ("happy",),
    }
    assert set(load_settings(path, ["labels.new='sad'"])[1].labels) == {"old", "new"}


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "evaluation"])
def test_a_name_that_is_no_folder_of_runs_is_refused(toy: "Toy", name: str) -> None:
    path = toy.experiment(name=name)
    with pytest.raises(EmocacheError, match=rf"^{path}: runs cannot be stored under the name .*; rename the file"):
        load_settings(path)


TWO_ROLES = """
targets = ["emotion"]
[streams]
text = "words"
audio = "toy"
[features]
normalise = "none"
[features.audio]
crop_s = 3
[head]
kind = "mha_fusion"
"""


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("crop = 3", "crop_s = 3", r"unknown setting 'features.audio.crop'; did you mean 'features.audio.crop_s'\?"),
        ("crop_s = 0", "crop_s = 3", r"features.audio.crop_s: .*greater than 0 \(found 0\)"),
        ("[features.sound]", "[features.audio]", r"features.sound is neither .* nor an input of head 'mha_fusion'"),
        ('sound = "toy"', 'audio = "toy"', "takes .*text.*audio; the streams are for text, sound; set "),
        ("headz = 3", "", r"unknown setting 'head.headz'; did you mean 'head.heads'\?"),
        ('task = "frame_regression"', "", "head 'mha_fusion' does not fit task 'frame_regression'; it is for"),
    ],
)
def test_mistakes_in_tables_of_roles_and_heads(toy: "Toy", wrong: str, right: str, message: str) -> None:
    text = TWO_ROLES.replace(right, wrong) if right else TWO_ROLES + wrong + "\n"
    if wrong.startswith("task"):
        text = wrong + TWO_ROLES
    with pytest.raises(EmocacheError, match=rf"^{toy.folder}/roles.toml: .*{message}"):
        load_settings(toy.experiment(text, "roles"))


def test_a_mistake_is_told_with_the_file_it_is_in(toy: "Toy") -> None:
    toy.experiment(EXPERIMENT + "[augment]\nnoize = 1\n", "base")
    path = toy.experiment('extends = "base"\n', "child")
    with pytest.raises(EmocacheError, match=r"child.toml \(.*/base.toml\): unknown setting 'augment.noize'"):
        load_settings(path)
    toy.experiment(EXPERIMENT, "base")
    path = toy.experiment('extends = "base"\n[training]\nepochs = 0\n', "child")
    with pytest.raises(EmocacheError, match=r"/child.toml: training.epochs: .* \(found 0\)"):
        load_settings(path)
    with pytest.raises(EmocacheError, match=r"/child.toml \(--set\): training.epochs: .* \(found -1\)"):
        load_settings(path, ["training.epochs=-1"])


def test_what_is_not_there_to_extend_is_told(toy: "Toy") -> None:
    path = toy.experiment('extends = "prob"\n', "child")
    with pytest.raises(
        EmocacheError, match=r"child.toml: extends 'prob' is neither beside it .*did you mean 'probe'\?"
    ):
        load_settings(path)


def test_a_setting_that_is_needed_is_told(toy: "Toy") -> None:
    path = toy.experiment(EXPERIMENT.replace('targets = ["emotion"]', ""), "untargeted")
    with pytest.raises(
        EmocacheError, match=r"untargeted.toml: targets is not set; set it there, or with --set targets="
    ):
        load_settings(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["streams=absent"], "streams: corpus 'toys' has no stream 'absent'; extract it .*, or set streams to .*: toy"),
        (["search.streams=['toy', 'absent']"], "streams: corpus 'toys' has no stream 'absent'"),
        (["targets=mood"], "no column 'mood'; it has: .*emotion"),
        (["protocol.group=session"], r"share 1 speakers?, such as .*protocol.overlap = true|share"),
        (["protocol.folds=7"], "7 speakers, there are 6; use fewer folds"),
        (["protocol.group=corpus"], "needs at least 3 corpora, there are 1"),
        (["protocol.group=village"], "no column 'village'; it has: "),
        (["task=regression"], "holds text; regression of it needs numbers"),
    ],
)
def test_what_does_not_fit_the_cache_is_told_with_the_file(toy: "Toy", changes: list[str], message: str) -> None:
    corpus = toy.corpus()
    if changes == ["protocol.group=session"]:  # one speaker in two sessions
        corpus.rows = [replace(row, session=f"D{n % 3}") for n, row in enumerate(corpus.rows)]
    cache = toy.cache(corpus)
    request = Request(cache, ["toys"], toy.folder / "runs", changes)
    with pytest.raises(EmocacheError, match=rf"^{toy.folder}/small.toml: .*{message}") as caught:
        request.plan(request.experiment(toy.experiment()))
    assert "\n" not in str(caught.value)


def test_streams_must_be_named() -> None:
    with pytest.raises(EmocacheError, match=r"no streams; say which to train on, such as --set"):
        load_settings("probe")


def test_an_unknown_experiment_names_the_nearest() -> None:
    for name in ("bigur", "BiGRU"):
        with pytest.raises(
            EmocacheError, match=rf"no experiment '{name}'; did you mean 'bigru'\? `emocache train --list`"
        ):
            load_settings(name)
    with pytest.raises(EmocacheError, match="no experiment 'zzz'; `emocache train --list` names the shipped ones; or"):
        load_settings("zzz")


def test_paths_that_are_no_experiment_files(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match=r"'nowhere.toml' does not exist"):
        load_settings("nowhere.toml")
    (toy.folder / "folder.toml").mkdir()
    with pytest.raises(EmocacheError, match=r"folder.toml' is a folder; give a file"):
        load_settings(str(toy.folder / "folder.toml"))
    with pytest.raises(EmocacheError, match=r"no experiment '.*' \(a folder\)"):
        load_settings(str(toy.folder))


def test_a_file_that_begins_with_a_byte_order_mark(toy: "Toy") -> None:
    path = toy.experiment("\ufeff" + EXPERIMENT, "marked")
    assert load_settings(path)[1].training.epochs == 15


def test_a_file_that_is_no_toml_is_named(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match=r"broken.toml: not a TOML file: .*line 1"):
        load_settings(toy.experiment("= what", "broken"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("head.kind=probe",), "learns a vector for each word of 'frames', but head 'probe' takes their mean"),
        (("head.kind=recurrent", "features.average_frames=2"), r"features\.average_frames makes other frames of them"),
        (("head.kind=recurrent", "features.grid_hz=50"), r"features\.grid_hz makes other frames of them"),
    ],
)
def test_only_words_that_stay_words_are_learned(toy: "Toy", changes: tuple[str, ...], message: str) -> None:
    words = ("features.trainable_words=vector", "features.normalise=none")
    assert toy.settings("head.kind=recurrent", *words).features.trainable_words == "vector"
    with pytest.raises(EmocacheError, match=message):
        toy.settings(*words, *changes)


@pytest.mark.parametrize("setting", ["loss.label_smoothing=0.1", "loss.class_weights=balanced"])
def test_settings_that_would_do_nothing_are_refused(toy: "Toy", setting: str) -> None:
    assert toy.settings(setting).loss.kind == "cross_entropy"
    name = setting.partition("=")[0]
    with pytest.raises(EmocacheError, match=rf"{name} is for loss\.kind 'cross_entropy', not 'sigmoid'; leave it out"):
        toy.settings("loss.kind=sigmoid", setting)


def test_streams_of_different_coverage_are_not_searched(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match="'streams' cannot be searched with modalities = 'any'"):
        toy.settings("modalities=any", "search.streams=[['toy'], ['more']]")


def test_ccc_needs_batches(toy: "Toy") -> None:
    with pytest.raises(EmocacheError, match="batch_size must be at least 8 for the CCC loss"):
        toy.frame_settings("loss.kind=ccc", "training.batch_size=4")
