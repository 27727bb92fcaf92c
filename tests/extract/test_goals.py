"""Streams as goals: the passes that make them, in the order in which they rest on each other."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from soundfile import write
from typer.testing import CliRunner

from emocache.cache import Cache, EmocacheError
from emocache.cli import app
from emocache.extract.encoders.text import TokenText
from emocache.extract.goals.passes import Goal, Making, Pass, PcaGoal, made_by_hand, plan_passes
from emocache.train.config.experiment_names import experiment_names
from emocache.train.config.stream_lists import experiments_for, matching_experiments, wanted_streams

TEXT = "distilbert-base-cls.from-whisper-large-v3-15s-translation"


def passes(*names: str, how: Making | None = None) -> list[Pass]:
    return plan_passes([Goal(name, how or Making()) for name in names])


def test_what_rests_on_nothing_is_one_pass() -> None:
    (only,) = passes("hubert-large.pca128", "vgg-face", "whisper-base.L4", "whisper-base", "hubert-large.pca128")
    assert only.layers == {"hubert-large": "last", "vgg-face": "last", "whisper-base": "4,last"}
    assert only.projections == (PcaGoal("hubert-large", "last", 128, "all"),) and only.text_from is None


def test_a_transcript_comes_before_its_text_and_shares_the_first_pass() -> None:
    for names in permutations((TEXT, "bert-base.from-whisper-large-v3-15s.L3", "logmel", "whisper-base")):
        first, *others = passes(*names)
        assert set(first.layers) == {"transcript-whisper-large-v3-15s", "logmel", "whisper-base"}
        assert {(one.text_from, *one.layers.items()) for one in others} == {
            ("transcript-whisper-large-v3-15s:translation", ("distilbert-base-cls", "last")),
            ("transcript-whisper-large-v3-15s", ("bert-base", "3")),
        }


def test_an_alignment_comes_before_the_words_that_it_places() -> None:
    words = Making(words_from="align-wav2vec2-base-960h")
    first, last = passes("roberta-base", how=words)
    assert set(first.layers) == {"align-wav2vec2-base-960h"} and first.how.words_from is None
    assert set(last.layers) == {"roberta-base"} and last.how.words_from == "align-wav2vec2-base-960h"


def test_what_differs_in_pictures_is_not_one_pass_and_in_the_fit_is() -> None:
    two = plan_passes(
        [Goal("vgg-face", Making(fps=5)), Goal("marlin-base"), Goal("mfcc.pca3", Making(fit_on="split=train"))]
    )
    assert [(set(one.layers), one.how.fps) for one in two] == [({"vgg-face"}, 5), ({"marlin-base", "mfcc"}, None)]
    assert two[1].projections == (PcaGoal("mfcc", "last", 3, "split=train"),)


def test_what_is_given_by_hand_comes_first() -> None:
    goals = [Goal("vgg-face", Making(fps=5, fit_on="split=train")), Goal("mfcc")]
    assert [one.how for one in made_by_hand(goals, {"fps": 2.0})] == [Making("split=train", 2.0), Making("all", 2.0)]


def test_shipped_experiments_agree_on_their_streams() -> None:
    wanted = wanted_streams(["all"])
    names = [stream.name for stream in wanted]
    assert len(set(names)) == len(names) and TEXT in names
    by_name = {stream.name: stream for stream in wanted}
    assert by_name["hubert-large.pca128"].how.fit_on == "culture=Chinese|British"
    assert "paper1/fusion-average-arousal" in by_name["vgg-face"].experiments  # through its members


def test_patterns_name_experiments() -> None:
    everything = matching_experiments(["all"])
    assert set(everything) < set(experiment_names()) and "bigru" not in everything  # it names no stream
    assert matching_experiments(["paper1/vote-*", "probe", "paper1/vote-liking"])[0] == "paper1/vote-arousal"
    assert len(matching_experiments(["paper1/vote-*", "paper1/vote-liking"])) == 6


def test_two_ways_of_one_stream_are_refused_by_name(tmp_path: Path) -> None:
    text = 'streams = "vgg-face"\ntargets = "emotion"\n[head]\nkind = "probe"\n'
    (tmp_path / "one.toml").write_text(text)
    (tmp_path / "two.toml").write_text(text + "[extract]\nfps = 5\n")
    with pytest.raises(EmocacheError, match=r"'vgg-face' made in two ways: \[extract\] fps = None and 5.0; give both"):
        wanted_streams([str(tmp_path / "one.toml"), str(tmp_path / "two.toml")])


def test_goals_from_the_command_line(tmp_path: Path, voice: Callable[..., Any]) -> None:
    store = str(tmp_path / "store")
    for number in range(3):
        write(tmp_path / f"{number}.wav", voice(0.5, number), 16_000)
    (tmp_path / "list.csv").write_text("file,emotion\n" + "".join(f"{number}.wav,sad\n" for number in range(3)))
    command = ["extract", "table", "--data", str(tmp_path), "--cache", store, "--map", "table=list.csv"]
    done = CliRunner().invoke(app, [*command, "--stream", "logmel.pca4", "--stream", "mfcc"])
    assert done.exit_code == 0, done.stderr
    assert {info.name for info in Cache(store).streams("table")} == {"logmel", "logmel.pca4", "mfcc"}
    done = CliRunner().invoke(app, [*command, "--for", "demo-*", "--stream", "whisper-base.L2"])
    assert done.exit_code == 1 and "nothing to extract" in done.stdout
    assert "cannot be made here: whisper-base: encoder 'whisper-base': openai/whisper-base at" in done.stderr
    for arguments, status, told in (
        (["--stream", "nope.L3"], 1, "stream 'nope.L3': unknown encoder 'nope'"),
        (["--stream", "mfcc", "--encoder", "mfcc"], 2, "give encoders, or else streams"),
        ([], 1, "no experiment is for corpus 'table'"),
        (["--stream", "mfcc", "--pca", "3", "--fit-on", "all"], 2, "a stream's name says that"),
        (["--for", "papr1/*"], 1, "no experiment is called so"),
    ):
        done = CliRunner().invoke(app, [*command, *arguments])
        assert done.exit_code == status and told in done.stderr, done.stderr


def test_the_plan_before_the_work(tmp_path: Path, voice: Callable[..., Any]) -> None:
    store = str(tmp_path / "store")
    for number in range(2):
        write(tmp_path / f"{number}.wav", voice(0.5, number), 16_000)
    (tmp_path / "list.csv").write_text("file,emotion\n0.wav,sad\n1.wav,happy\n")
    command = ["extract", "table", "--data", str(tmp_path), "--cache", store, "--map", "table=list.csv"]
    goals = ["--stream", "mfcc", "--stream", "logmel.pca4", "--stream", "hubert-large.pca128"]
    done = CliRunner().invoke(app, [*command, *goals, "--dry-run"])
    assert done.exit_code == 1 and not (tmp_path / "store").exists()
    where, *told = done.stdout.splitlines()
    assert where.startswith("on ") and told == [
        "3 streams of table, 2 utterances: 0 there, 2 to make, 1 cannot be made here",
        "to make: about 1 MB, under a minute (a guess; no run recorded here)",
        "  stream                there  to write  time",
        "  mfcc                 0 of 2      1 MB  under a minute ?",
        "  logmel.pca4          0 of 2      1 MB  under a minute ?",
        "  hubert-large.pca128  0 of 2      1 MB  weights missing",
        "weights:",
        "  hubert-large  missing: facebook/hubert-large-ll60k@ff022d095678",
        "for those that cannot be made here:",
        "  emocache checkpoints hubert-large --fetch",
    ]
    done = CliRunner().invoke(app, [*command, *goals])
    assert done.exit_code == 1 and "3 streams of table, 2 utterances: 0 there, 2 to make" in done.stderr
    done = CliRunner().invoke(app, [*command, *goals[:4], "--dry-run"])
    assert done.exit_code == 0 and done.stdout.splitlines()[1:] == [
        "2 streams of table, 2 utterances: 2 there, 0 to make, 0 cannot be made here",
        "  stream        there  to write  time",
        "  mfcc         2 of 2            done",
        "  logmel.pca4  2 of 2            done",
    ]
    done = CliRunner().invoke(app, [*command, "--stream", "mfcc.pca2", "--fit-on", "emotion=glad"])
    assert done.exit_code == 1 and "glad" in done.stderr
    assert CliRunner().invoke(app, [*command, "--stream", "mfcc.pca2", "--fit-on", "emotion=sad"]).exit_code == 0
    (info,) = Cache(store).streams("table", "mfcc.pca2")
    assert info.recipe["projection"]["fit_on"] == "emotion=sad"


def test_a_corpus_is_enough_where_experiments_are_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for corpus in [
        "sewa",
        "sewa-basic",
        "emotionshare",
        "iemocap",
        "iemocap-segments",
        "cremad",
        "emodb",
        "cafe",
        "bhavvani",
        "ravdess",
    ]:
        names = experiments_for(corpus)
        assert len(names) >= 1 and wanted_streams(names, corpus)
    assert {"paper1/vote-arousal", "paper1/audio-cats-arousal"} <= set(experiments_for("sewa-basic"))
    avec = experiments_for("sewa")
    assert {"paper1/avec-vote-arousal", "paper1/avec-de-hu-audio-cats-arousal"} <= set(avec)
    # Of a pattern, what is for the corpus; all of it where nothing is.
    assert set(matching_experiments(["paper1/*"], "sewa")) == set(avec)
    assert set(matching_experiments(["paper1/*"], "table")) == set(matching_experiments(["paper1/*"])) > set(avec)
    with pytest.raises(
        EmocacheError, match=r"no experiment is for corpus 'lhotse'.*, .* experiments for: .*sewa-basic"
    ):
        experiments_for("lhotse")
    monkeypatch.setenv("EMOCACHE_DATA", str(tmp_path))
    done = CliRunner().invoke(app, ["extract", "emodb", "--cache", str(tmp_path / "store"), "--dry-run"])
    assert done.exit_code == 1 and f"the folder {tmp_path / 'emodb'} does not exist" in done.stderr
    assert "EmoDB, acted German: 535 clips" in done.stderr


def test_layers_that_are_there_are_left_out_of_the_pass(
    tmp_path: Path, voice: Callable[..., Any], tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    encode = TokenText.encode

    def spied(self: TokenText, clips: Any, layers: Any) -> Any:
        asked.append(list(layers))
        return encode(self, clips, layers)

    monkeypatch.setattr(TokenText, "encode", spied)
    write(tmp_path / "a.wav", voice(0.5), 16_000)
    (tmp_path / "list.csv").write_text("file,text,emotion\na.wav,Kids are talking,sad\n")
    command = ["extract", "table", "--data", str(tmp_path), "--cache", str(tmp_path / "store"), "--map"]
    command += ["table=list.csv", "--encoder", str(tiny_bert), "--layers"]
    for layers, expected in (("1", [[1]]), ("all", [[0, None]]), ("all", [])):
        asked.clear()
        assert CliRunner().invoke(app, [*command, layers]).exit_code == 0
        assert asked == expected


def test_all_layers_are_those_of_the_table_of_encoders(tmp_path: Path) -> None:
    text = 'streams = {encoder = "wavlm-large", layers = "all"}\ntargets = "emotion"\n[head]\nkind = "probe"\n'
    (tmp_path / "all.toml").write_text(text)
    names = [stream.name for stream in wanted_streams([str(tmp_path / "all.toml")])]
    assert names == [*(f"wavlm-large.L{layer}" for layer in range(24)), "wavlm-large"]
    (only,) = passes(*names)
    assert only.layers == {"wavlm-large": ",".join([*map(str, range(24)), "last"])}
