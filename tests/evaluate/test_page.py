"""The report as one HTML file: its numbers, its safety, and that it needs nothing but itself."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from emocache.cache import Cache, EmocacheError, Manifest, Media, Utterance
from emocache.evaluate.output.figures.scatter import Panel
from emocache.evaluate.page.charts import MOST_POINTS, gaps, scatter
from emocache.evaluate.page.headline import _published
from emocache.evaluate.page.rendering import script_json
from emocache.evaluate.page.svg import SERIES, inline
from emocache.evaluate.papers.published.published_scores import PublishedScore
from emocache.evaluate.report import check_places, evaluate_runs, write_page
from emocache.evaluate.scoring.breakdowns.clip_losses import Track, clips, tracks
from emocache.evaluate.scoring.ranking.contests import Contest, Pair, contests
from emocache.evaluate.scoring.ranking.differences import Difference
from emocache.evaluate.scoring.ranking.standings import Standing
from emocache.train.records.group_sums import draw

EMOTIONS = ("angry", "happy", "sad")
APART, NOT_APART = (Difference(0.1, ends, float("nan"), float("nan")) for ends in ((0.05, 0.15), (-0.05, 0.25)))
VOID = {"meta", "link", "input", "br", "img", "path", "use", "rect", "image", "hr", "line", "circle"}


class Page(HTMLParser):
    """All that tests ask of a page: its elements with their attributes, what encloses them, and their texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[tuple[str, dict[str, str]]]]] = []
        self.open: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # (innermost element, text)
        self.placed: list[tuple[str, str, set[str]]] = []  # (innermost element, text, all elements around it)
        self.commands: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self.elements.append((tag, own, list(self.open)))
        if tag == "code" and self.open[-1][0] == "pre":
            self.commands.append("")
        if tag not in VOID:
            self.open.append((tag, own))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, list(self.open)))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1][0], data))
            around = {tag for tag, _ in self.open}
            self.placed.append((self.open[-1][0], data, around))
            if {"pre", "code"} <= around:
                self.commands[-1] += data

    def text_of(self, tag: str) -> list[str]:
        """The texts directly in such elements."""
        return [text for own, text in self.texts if own == tag]

    @property
    def tables(self) -> dict[str, Any]:
        """The page's data."""
        (found,) = [text for tag, text in self.texts if tag == "script" and text.startswith("{")]
        data: dict[str, Any] = json.loads(found)
        return data

    def column(self, table: str, label: str) -> list[Any]:
        """The cells of a column."""
        place = [column["label"] for column in self.tables[table]["columns"]].index(label)
        return [row[place] for row in self.tables[table]["rows"]]

    def facts(self) -> dict[str, str]:
        """{question: the strong answer} of the first headline."""
        found: dict[str, str] = {}
        question = ""
        for tag, text in self.texts:
            if tag == "dt":
                question = text
            elif tag == "strong":
                found.setdefault(question, text)
        return found


@pytest.fixture
def two_systems(write_run: Any, utterance: Any, tmp_path: Path) -> Path:
    """Two classifications of the same 48 utterances of 8 speakers in two folds and two seeds; the folder of runs."""
    draws = np.random.default_rng(0)
    for experiment, skill in (("better", 0.8), ("worse", 0.5)):
        for fold in (0, 1):
            for seed in (0, 1):
                rows = []
                for i in range(24):
                    true, speaker = EMOTIONS[i % 3], f"s{fold}{i // 6}"
                    said = true if draws.random() < skill - 0.3 * (speaker == "s12") else EMOTIONS[draws.integers(3)]
                    sure = {f"prob.{name}": 0.8 if name == said else 0.1 for name in EMOTIONS}
                    rows.append(utterance(f"u{fold}-{i:02}", speaker, true, said, **sure))
                folder = write_run(rows, fold=fold, seed=seed, experiment=experiment)
                epochs = [{"phase": "search", "epoch": k, "train_loss": 1 / k, "valid_loss": 2 / k} for k in (1, 2, 3)]
                (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in epochs))
    return tmp_path / "runs"


@pytest.fixture
def values(write_run: Any, tmp_path: Path) -> Path:
    """A frame-wise regression of two targets, the second without a label in places; the folder of runs."""
    draws = np.random.default_rng(1)
    for fold in (0, 1):
        rows = []
        for i in range(6):
            true = draws.normal(size=(2, 12))
            said = true * 0.6 + draws.normal(size=(2, 12)) * 0.4
            true[1, 3:6] = np.nan
            rows.append({
                "id": f"u{fold}{i}", "speaker": f"s{fold}{i // 2}", "group": f"s{fold}{i // 2}",
                "culture": ("german", "greek")[i % 2], "times": (np.arange(12) / 10).tolist(),
                **{f"reference.{t}": own.tolist() for t, own in zip("va", true, strict=True)},
                **{f"prediction.{t}": own.tolist() for t, own in zip("va", said, strict=True)},
            })  # fmt: skip
        fields = {"task": "frame_regression", "targets": ["v", "a"], "classes": None, "prior": {"v": 0.0, "a": 0.0}}
        write_run(rows, fold=fold, **fields, selection={"metric": "ccc"})
    return tmp_path / "runs"


def page_of(runs: Path, **fields: Any) -> tuple[Page, str]:
    """The page of the runs, and its text."""
    path = write_page(runs / "report.html", evaluate_runs([runs]), [runs], **fields)
    text = path.read_text(encoding="utf-8")
    return Page(text), text


def stored(runs: Path, experiment: str) -> Iterator[Any]:
    """The test parts of each seed, all folds together, as a plain reader finds them."""
    for seed in (0, 1):
        files = sorted((runs / experiment).rglob(f"fold*-seed{seed}/predictions.parquet"))
        if files:
            yield [row for file in files for row in pq.read_table(file).to_pylist() if row["part"] == "test"]


def ccc(true: Any, said: Any) -> float:
    """Lin's concordance, by its formula."""
    covariance = np.mean((true - true.mean()) * (said - said.mean()))
    return float(2 * covariance / (true.var() + said.var() + (true.mean() - said.mean()) ** 2))


def test_numbers_of_classes_are_those_of_the_predictions(two_systems: Path) -> None:
    page, _ = page_of(two_systems)
    naive: dict[str, Any] = {}
    for experiment in ("better", "worse"):
        seeds = [[(r["reference"], r["prediction"]) for r in rows] for rows in stored(two_systems, experiment)]
        pairs = [tuple(zip(*own, strict=True)) for own in seeds]
        naive[experiment] = {
            "accuracy": np.mean([accuracy_score(y, p) for y, p in pairs]),
            "macro_f1": np.mean([f1_score(y, p, average="macro") for y, p in pairs]),
            "balanced_accuracy": np.mean([recall_score(y, p, average="macro") for y, p in pairs]),
        }
    systems, metrics, pooled = (page.column("results", name) for name in ("system", "metric", "pooled [95 %]"))
    shown = {(s, m): p for s, m, p in zip(systems, metrics, pooled, strict=True)}
    for experiment, own in naive.items():
        for metric, value in own.items():
            assert shown[experiment, metric][0] == pytest.approx(value, abs=1e-12)
            assert shown[experiment, metric][1].startswith(f"{value:.3f} [")
    facts = page.facts()
    assert facts["Best system"] == "better"
    assert facts["By how much"] == f"{naive['better']['accuracy'] - naive['worse']['accuracy']:+.3f}"
    assert facts["Against chance"] == f"{naive['better']['accuracy'] - 1 / 3:+.3f}"
    assert page.column("pairs", "difference [95 %]")[0][0] == pytest.approx(
        naive["better"]["accuracy"] - naive["worse"]["accuracy"]
    )


def test_speakers_classes_and_clips_are_those_of_the_predictions(two_systems: Path) -> None:
    page, _ = page_of(two_systems)
    seeds = list(stored(two_systems, "better"))
    rows = [row for own in seeds for row in own]
    speakers = {row["speaker"] for row in rows}
    by_speaker = {s: np.mean([r["reference"] == r["prediction"] for r in rows if r["speaker"] == s]) for s in speakers}
    columns = ("system", "value", "score", "utterances")
    own = [line for line in zip(*(page.column("groups", c) for c in columns), strict=True) if line[0] == "better"]
    assert {value: score[0] for _, value, score, _ in own} == pytest.approx(by_speaker)
    assert {count[1] for *_, count in own} == {"6"}
    assert by_speaker[page.facts()["Fails most: speaker"]] == min(by_speaker.values())

    recall = dict(zip(EMOTIONS, recall_score([r["reference"] for r in rows], [r["prediction"] for r in rows],
                                             labels=EMOTIONS, average=None), strict=True))  # fmt: skip
    lines = zip(*(page.column("classes", c) for c in ("system", "class", "recall")), strict=True)
    assert {name: value[0] for s, name, value in lines if s == "better"} == pytest.approx(recall)
    assert recall[page.facts()["Fails most: class"]] == min(recall.values())

    losses: dict[str, list[float]] = {}
    for row in rows:
        losses.setdefault(f"demo/{row['id']}", []).append(-np.log(row[f"prob.{row['reference']}"]))
    lines = zip(*(page.column("clips", c) for c in ("system", "clip", "loss")), strict=True)
    shown = {clip: loss[0] for s, clip, loss in lines if s == "better"}
    assert shown == pytest.approx({name: np.mean(own) for name, own in losses.items()})
    assert list(shown.values()) == sorted(shown.values(), reverse=True)


def test_numbers_of_values_over_time_are_those_of_the_predictions(values: Path) -> None:
    page, text = page_of(values)
    (rows,) = stored(values, "probe")
    naive = {}
    for target in "va":
        true, said = (np.concatenate([r[f"{kind}.{target}"] for r in rows]) for kind in ("reference", "prediction"))
        known = ~np.isnan(true)
        naive[f"ccc.{target}"] = ccc(true[known], said[known])
    shown = dict(zip(page.column("results", "metric"), page.column("results", "pooled [95 %]"), strict=True))
    for name, value in naive.items():
        assert shown[name][0] == pytest.approx(value, abs=1e-12)
    cultures = {
        value: score[0]
        for by, value, score, metric in zip(
            *(page.column("groups", c) for c in ("by", "value", "score", "metric")), strict=True
        )
        if by == "culture" and metric == "ccc.v"
    }
    for culture, value in cultures.items():
        own = [r for r in rows if r["culture"] == culture]
        true, said = (np.concatenate([r[f"{kind}.v"] for r in own]) for kind in ("reference", "prediction"))
        assert value == pytest.approx(ccc(true, said))
    assert set(cultures) == {"german", "greek"}
    assert "the largest loss" in text and "Predicted against true" in text


def picture_rows(text: str, label: str) -> list[list[str]]:
    """The cells of the table below the first picture with such a label, less its headings."""
    place = text.index(f'aria-label="Numbers of: {label}')
    body = text[text.index("<tbody>", place) : text.index("</tbody>", place)]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]


def drawn_accuracy(seeds: Any, speakers: Any, weights: Any) -> Any:
    """The accuracy of every draw of speakers, mean over seeds, by adding up."""
    found = []
    for rows in seeds:
        right = np.array([sum(r["reference"] == r["prediction"] for r in rows if r["speaker"] == s) for s in speakers])
        there = np.array([sum(r["speaker"] == s for r in rows) for s in speakers])
        found.append((weights @ right) / (weights @ there))
    return np.mean(found, axis=0)


def told(ends: Any, sign: str = "") -> str:
    """An interval as the page has it."""
    return "[" + ", ".join(f"{end:{sign}.3f}" for end in ends) + "]"


def test_intervals_are_those_of_draws_of_speakers(two_systems: Path) -> None:
    page, text = page_of(two_systems)
    seeds = {name: list(stored(two_systems, name)) for name in ("better", "worse")}
    speakers = sorted({row["speaker"] for row in seeds["better"][0]})
    weights = draw(len(speakers)).astype(int)
    better, worse = (drawn_accuracy(seeds[name], speakers, weights) for name in ("better", "worse"))
    ends = told(np.percentile(better, [2.5, 97.5]))
    assert page.facts()["How sure"] == ends and page.column("results", "pooled [95 %]")[0][1].endswith(ends)
    apart = np.percentile(better - worse, [2.5, 97.5])
    assert page.column("pairs", "difference [95 %]")[0][1].endswith(told(apart, "+"))
    assert page.column("pairs", "verdict") == ["apart" if apart[0] > 0 else "not told apart"]
    ranks = picture_rows(text, "Systems ranked by demo, emotion: accuracy")
    assert [row[0] for row in ranks] == ["better", "worse"] and ranks[0][2] == ends


def test_folds_chance_coverage_and_classes_are_those_of_the_predictions(two_systems: Path) -> None:
    page, text = page_of(two_systems)
    rows = [row for own in stored(two_systems, "better") for row in own]
    folds = [[r["reference"] == r["prediction"] for r in rows if r["id"].startswith(f"u{fold}")] for fold in (0, 1)]
    mean, std = np.mean(folds), np.std([np.mean(own) for own in folds])
    assert page.column("results", "mean ± std over folds")[0][1] == f"{mean:.3f} ± {std:.3f}"
    assert page.column("results", "coverage")[0] == [1.0, "48/48"]
    assert page.column("results", "chance")[0] == [pytest.approx(1 / 3), "0.333 majority"]
    true, said = ([row[name] for row in rows] for name in ("reference", "prediction"))
    counts = confusion_matrix(true, said, labels=EMOTIONS)
    assert picture_rows(text, "Confusion matrix of better") == [
        [name, *map(str, own)] for name, own in zip(EMOTIONS, counts.tolist(), strict=True)
    ]
    for label, score in (("precision", precision_score), ("F1", f1_score)):
        expected = score(true, said, labels=EMOTIONS, average=None)
        assert [cell[0] for cell in page.column("classes", label)[:3]] == pytest.approx(expected)
    rest = counts - np.diag(np.diag(counts))
    assert page.column("classes", "mostly taken for")[:3] == [EMOTIONS[k] for k in rest.argmax(axis=1)]
    assert [cell[0] for cell in page.column("classes", "predictions")[:3]] == counts.sum(axis=1).tolist()
    curves = picture_rows(text, "Learning curves of better")
    assert curves[0] == ["fold 0 seed 0", "search", "train_loss", "3", "1.000", "0.333"] and len(curves) == 8


def test_numbers_below_pictures_of_values_are_those_of_the_predictions(values: Path) -> None:
    page, text = page_of(values)
    (rows,) = stored(values, "probe")
    losses = {}
    for row in rows:
        pairs = [np.array([row[f"{kind}.{t}"] for kind in ("reference", "prediction")]) for t in "va"]
        losses[row["id"]] = np.mean([np.nanmean((true - said) ** 2) for true, said in pairs])
    worst = max(losses, key=lambda name: losses[name])
    row = next(row for row in rows if row["id"] == worst)
    means = []
    for target, stamps in (("v", "12"), ("a", "9")):
        known = ~np.isnan(row[f"reference.{target}"])
        sides = [np.array(row[f"{kind}.{target}"])[known].mean() for kind in ("reference", "prediction")]
        means.append([target, stamps, *(f"{side:.3f}" for side in sides)])
    assert picture_rows(text, f"True and predicted values over time of demo/{worst}") == means
    assert page.column("clips", "loss")[0][0] == pytest.approx(losses[worst])
    samples = [row[:2] for row in picture_rows(text, "Predicted against true values of probe")]
    assert samples == [["v", "144"], ["a", "108"]]
    assert {f"ccc.{t} of probe for each speaker" in text for t in "va"} == {True}  # of each target, not of one


def test_the_commands_say_what_was_set_by_hand(grid: Any, tmp_path: Path) -> None:
    corpus = tmp_path / "media" / "it's here"
    corpus.mkdir(parents=True)
    (corpus / "u.wav").write_bytes(b"RIFF")
    one = Utterance("u00", (Media("audio", "u.wav", "ab" * 32),))
    Cache(tmp_path / "store").put_manifest(Manifest.from_utterances("demo", [one]))
    grid(5, experiment="shipped", seeds=[0], command=["shipped", "labels={a=['b']}"])
    grid(4, experiment="own", seeds=[0], command=["folder/own.toml"])
    grid(3, experiment="old", seeds=[0])
    page, _ = page_of(tmp_path / "runs", cache=str(tmp_path / "store"), media=[corpus])
    lines = [shlex.split(line) for line in page.commands]
    store, runs = ["--cache", str(tmp_path / "store")], str(tmp_path / "runs")
    for k, (experiment, streams, changed) in enumerate([
        ("shipped", ["--for", "shipped"], ["--set", "labels={a=['b']}"]),
        ("folder/own.toml", ["--stream", "logmel"], []),
        ("old", ["--for", "old"], []),
    ]):  # fmt: skip
        extract, train, evaluate = lines[3 * k + 3 : 3 * k + 6]  # after those of the headline
        assert extract == ["emocache", "extract", "demo", *streams, "--data", str(corpus), *store]
        assert train == ["emocache", "train", experiment, "--corpus", "demo", *changed, *store, "--runs", runs]
        assert evaluate == ["emocache", "evaluate", runs, *store, "--media", str(corpus)]
    assert lines[:3] == lines[3:6]
    for name in ("one", "two"):
        grid(5, experiment=name, seeds=[0], root=tmp_path / name)
    both = [tmp_path / "one", tmp_path / "two"]
    path = write_page(tmp_path / "both.html", evaluate_runs(both), both)
    trained = [shlex.split(line) for line in Page(path.read_text(encoding="utf-8")).commands if " train " in line]
    assert {(line[2], line[-1]) for line in trained} == {("one", str(both[0])), ("two", str(both[1]))}


def test_of_a_pair_the_better_comes_first_also_where_it_lacks_runs(grid: Any, tmp_path: Path) -> None:
    grid(3, experiment="whole", seeds=[0])
    grid(6, experiment="lacking", seeds=[0], config={"seeds": [0, 1]})
    page, text = page_of(tmp_path / "runs")
    assert page.facts()["Best system"] == "whole"
    assert "lacking has 1.000, but: " in text and "Last, whatever their score" in text
    assert [page.column("pairs", name) for name in ("better", "than")] == [["lacking"], ["whole"]]
    assert page.column("pairs", "difference [95 %]")[0][0] == pytest.approx(0.5)
    assert page.column("missing", "system") == ["lacking"] * 2  # one of two: which, must be told


def test_systems_that_are_alike_across_others_are_told() -> None:
    between = [Pair(0, 1, APART), Pair(0, 2, NOT_APART), Pair(1, 2, APART)]
    beside = [Pair(0, 1, NOT_APART), Pair(0, 2, APART), Pair(1, 2, APART)]
    entries: Any = [None] * 3
    for pairs, alike, across in ((between, [], [(0, 2)]), (beside, [(0, 1)], [])):
        contest = Contest(Standing("accuracy", "", entries), pairs)
        assert (contest.alike, contest.alike_across) == (alike, across)


def test_without_javascript_tables_are_there(two_systems: Path) -> None:
    page, _ = page_of(two_systems)
    inside = [(tag, text) for tag, text, place in page.placed if "noscript" in place]
    cells = [text for tag, text in inside if tag in ("th", "td")]
    for name in ("better", "0.333 majority", "s12", "angry", "taken for"):
        assert any(name in cell for cell in cells), name
    assert "worse" in cells  # in results and pairs
    shown = page.column("groups", "system").count("better")
    assert any(f"{shown} of {shown} rows of better; with JavaScript all {2 * shown}" in text for _, text in inside)


ODD = ("\"quoted\" & 'so'", "<b>bold</b>", "שלום", "مرحبا", "😀👩‍👩‍👧", "名前", "a\\b{c}$d_e^f$", "%s{{7*7}}{% if %}")


@pytest.mark.filterwarnings("error")
def test_odd_names_are_shown_as_they_are(write_run: Any, utterance: Any, tmp_path: Path) -> None:
    for experiment in ("a", "b"):
        rows = [utterance(f"{name} {i}", name, EMOTIONS[i % 3], EMOTIONS[(i + k) % 3], culture=name)
                for k, name in enumerate(ODD) for i in range(3)]  # fmt: skip
        write_run(rows, folds=1, experiment=experiment)
    page, text = page_of(tmp_path / "runs")  # and matplotlib warns of nothing
    assert set(ODD) <= set(page.column("groups", "value"))
    assert {row for row in ODD if any(row in told for _, told in page.texts)} == set(ODD)
    assert "<b>" not in text and "49" not in page.text_of("th")


def test_one_run_of_one_speaker_without_classes_of_its_own(write_run: Any, utterance: Any, tmp_path: Path) -> None:
    rows = [utterance(f"u{i}", None, "happy", "happy", group=f"u{i}") for i in range(3)]
    write_run(rows, folds=1)
    page, text = page_of(tmp_path / "runs")
    assert page.facts()["By how much"] == "–" and "There is no other system" in text
    assert "groups" not in page.tables and "A single speaker and culture." in text
    assert "pairs" not in page.tables and "Fails most: speaker" not in text
    assert "system" not in {column["label"] for column in page.tables["clips"]["columns"]}


def test_twenty_systems_are_less_than_five_megabytes(values: Path) -> None:
    draws = np.random.default_rng(0)
    true, said = draws.normal(size=(2, 20_000))
    found = Panel("v", true, said, 0.5)
    drawing = inline(scatter([found, found]), "p")
    assert drawing.count("<use ") <= MOST_POINTS and len(drawing) < 110_000
    _, text = page_of(values)
    assert len(text) < 5_000_000 / 20


def test_nothing_is_drawn_where_there_is_no_label(values: Path) -> None:
    (evaluation,) = evaluate_runs([values])
    first = clips(evaluation.result)[0]
    found = {track.target: track for track in tracks(evaluation.result, first.corpus, first.id)}
    assert np.isnan(found["a"].reference[3:6]).all() and np.isnan(found["a"].prediction[3:6]).all()
    assert not np.isnan(found["v"].prediction).any()
    assert gaps(found["a"]) == [pytest.approx((0.3, 0.6))] and gaps(found["v"]) == []
    whole = Track("v", np.arange(3.0), np.full(3, np.nan), np.full(3, np.nan))
    assert gaps(whole) == [(0.0, 2.0)]


def test_the_page_needs_nothing_but_itself(two_systems: Path, values: Path) -> None:
    page, text = page_of(two_systems)
    assert len(text) < 5_000_000 / 20 * 3
    for tag, own, _ in page.elements:
        assert not {"src", "srcset", "action", "poster", "data"} & set(own), tag
        assert own.get("href", "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in own), tag
        assert tag not in ("iframe", "object", "embed", "base", "form")
    assert not re.search(r"https?://", text) and "@import" not in text
    (policy,) = [own["content"] for _, own, _ in page.elements if own.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy


def test_the_page_is_told_to_those_who_do_not_see_it(two_systems: Path, values: Path) -> None:
    page, _ = page_of(two_systems)
    ids = [own["id"] for _, own, _ in page.elements if "id" in own]
    assert len(ids) == len(set(ids))
    used = [own[key].lstrip("#") for _, own, _ in page.elements for key in ("href", "aria-labelledby") if key in own]
    assert {name for name in used if name != "data:,"} <= set(ids)
    pictures = [(own, around) for tag, own, around in page.elements if tag == "svg"]
    assert len(pictures) >= 5
    for own, around in pictures:
        assert own["aria-hidden"] == "true"
        (image,) = [attributes for _, attributes in around if attributes.get("role") == "img"]
        assert len(image["aria-label"]) > 20
    assert not [own for tag, own, _ in page.elements if tag == "img" and not own.get("alt")]
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tags = [tag for tag, _, _ in page.elements]
    assert {"header", "nav", "main"} <= set(tags)
    assert next(own for tag, own, _ in page.elements if tag == "html")["lang"] == "en"
    assert next(own for tag, own, _ in page.elements if tag == "a") == {"class": "skip", "href": "#main"}


HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>\u2028{{7*7}}$x^2$" + "long" * 60


def test_names_are_never_markup(write_run: Any, utterance: Any, tmp_path: Path) -> None:
    rows = [
        utterance(f"{HOSTILE}{i}", f"{HOSTILE}{i // 2}", EMOTIONS[i % 3], EMOTIONS[i % 2], culture=f"{HOSTILE}{i % 2}")
        for i in range(6)
    ]
    stream = {"corpus": "demo", "name": HOSTILE, "fingerprint": "ab" * 32, "weights": HOSTILE}
    caution = {"kind": HOSTILE, "text": HOSTILE}
    config = {"streams": {"frames": ["logmel"]}, "seeds": [0], HOSTILE: HOSTILE}
    coverage = {"test": 6, "predicted": 5, "missing": [HOSTILE]}
    for experiment in ("a&b<b>", "c'\"d"):
        write_run(rows, folds=1, experiment=experiment, marks=[HOSTILE], warnings=[caution], config=config,
                  coverage=coverage, dropped_classes={HOSTILE: 3},
                  versions={HOSTILE: HOSTILE}, streams=[stream])  # fmt: skip
    page, text = page_of(tmp_path / "runs")
    tags = [tag for tag, _, _ in page.elements]
    assert "img" not in tags and tags.count("script") == 2 and "b" not in tags
    assert "<img" not in text and "alert(2)</script>" not in text and "49" not in page.text_of("h2")
    assert not any(name.startswith("on") for _, own, _ in page.elements for name in own)
    assert any(HOSTILE in clip for clip in page.column("clips", "clip"))
    assert any(HOSTILE in text for text in page.text_of("strong"))
    assert "a&b<b>" in page.column("results", "system")


def test_json_in_a_script_cannot_end_it() -> None:
    text = str(script_json({"a": ["</script><!--", "\u2028\u2029&", 1.5, None]}))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": ["</script><!--", "\u2028\u2029&", 1.5, None]}


def test_clips_have_text_and_a_relative_link_where_they_are_at_hand(two_systems: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "media" / "a folder"
    corpus.mkdir(parents=True)
    (corpus / "u #1.wav").write_bytes(b"RIFF")
    names = sorted({row["id"] for rows in stored(two_systems, "better") for row in rows})
    told = [Utterance(name, (Media("audio", "u #1.wav" if k < 2 else "gone.wav", "ab" * 32),), text=f"words {k}",
                      start=1.5 if k == 1 else None, end=2.25 if k == 1 else None)
            for k, name in enumerate(names)]  # fmt: skip
    Cache(tmp_path / "store").put_manifest(Manifest.from_utterances("demo", told))
    page, text = page_of(two_systems, cache=str(tmp_path / "store"), media=[corpus])
    found = dict(zip(page.column("clips", "clip"), page.column("clips", "play"), strict=True))
    assert found[f"demo/{names[0]}"] == ["audio", "../media/a%20folder/u%20%231.wav"]
    assert found[f"demo/{names[1]}"] == ["audio", "../media/a%20folder/u%20%231.wav#t=1.500,2.250"]
    assert found[f"demo/{names[2]}"] is None
    texts = dict(zip(page.column("clips", "clip"), page.column("clips", "text"), strict=True))
    assert texts[f"demo/{names[2]}"] == "words 2"
    assert "Media are played from where they lie" in text and f'<a href="{found[f"demo/{names[0]}"][1]}">play' in text
    page, text = page_of(two_systems)  # nothing is at hand: no column of nothing
    assert not {"play", "text"} & {column["label"] for column in page.tables["clips"]["columns"]}
    assert "No media are at hand" in text


def test_what_was_missing_is_told_with_its_reason(grid: Any, tmp_path: Path) -> None:
    grid(coverage={"test": 6, "predicted": 5, "missing": ["demo/u00"]}, without_features={"train": 2, "valid": 0},
         dropped_classes={"bored": 7}, unlabelled=3, seeds=[0], config={"seeds": [0, 1]})  # fmt: skip
    page, _ = page_of(tmp_path / "runs")
    told = set(zip(*(page.column("missing", name) for name in ("which", "what")), strict=True))
    assert told == {
        ("demo/u00", "test utterance"), ("4", "train utterances"), ("bored", "label"), ("3", "utterances"),
        ("fold 0 seed 1", "run"), ("fold 1 seed 1", "run"),
    }  # fmt: skip


def test_a_contest_is_ordered_and_tells_who_is_alike(grid: Any, tmp_path: Path) -> None:
    for name, right in (("three", 3), ("six", 6), ("five", 5)):
        grid(right, experiment=name, seeds=[0])
    (contest,) = contests(evaluate_runs([tmp_path / "runs"]))
    assert [entry.result.first.experiment for entry in contest.entries] == ["six", "five", "three"]
    assert contest.ranks == {0: 1.0, 1: 2.0, 2: 3.0}
    assert [(pair.a, pair.b) for pair in contest.pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in contest.pairs:
        assert pair.difference is not None
        low, high = pair.difference.ci95
        assert pair.apart == (low > 0 or high < 0)
    for first, last in contest.alike:
        inside = [pair for pair in contest.pairs if first <= pair.a and pair.b <= last]
        assert inside and not any(pair.apart for pair in inside)


def test_what_saw_true_labels_is_never_the_best(grid: Any, tmp_path: Path) -> None:
    mark = "teacher-forced decoding, not a prediction"
    grid(6, experiment="forced", marks=[mark], seeds=[0])
    grid(4, experiment="honest", seeds=[0])
    page, _ = page_of(tmp_path / "runs")
    assert page.facts()["Best system"] == "honest"
    assert page.column("results", "system") == ["honest"] * 4 + ["forced"] * 4
    assert mark in page.column("results", "marks")[-1]


def test_a_published_number_is_held_against_the_mean_over_folds() -> None:
    fair = PublishedScore("paper1/table2", "RNN", "C1", "valence", "ccc.valence", "0.40", 0.4, 0.5, "")
    other = replace(fair, why_not="weights not recorded for vgg-face")
    contest = Contest(Standing("ccc.valence", "valence", []))
    assert _published(contest, ["a", "b"], [[other], []]).strong == "not comparable"
    assert "weights not recorded" in _published(contest, ["a", "b"], [[other], []]).told
    told = _published(contest, ["a", "b"], [[other], [fair]])
    assert told.strong == "+0.100" and "b, as the best has no" in told.told and "paper1/table2 (RNN, C1)" in told.told
    assert _published(contest, ["a"], [[replace(fair, metric="rmse.valence")]]).strong == "none"


def test_a_drawing_has_its_own_ids_and_colours_and_whole_numbers() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=SERIES[0], clip_on=True)
    axes.set_xticks([0.975, 0.12345], ["0.975", "0.12345"])
    text = inline(figure, "one")
    assert ">0.975<" in text and ">0.12345<" in text and "var(--series-0)" in text
    assert "xmlns" not in text and "http" not in text and "<metadata" not in text
    ids = set(re.findall(r'id="([^"]+)"', text))
    assert ids and all(name.startswith("one-") for name in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= ids


def test_less_is_better_of_an_error(write_run: Any, tmp_path: Path) -> None:
    for name, error in (("near", 0.1), ("far", 0.5)):
        rows = [{"id": f"u{i}", "speaker": f"s{i}", "group": f"s{i}", "reference.x": i / 5,
                 "prediction.x": i / 5 + error * (-1) ** i} for i in range(6)]  # fmt: skip
        write_run(rows, experiment=name, folds=1, task="regression", targets=["x"], classes=None, prior={"x": 0.5},
                  selection={"metric": "rmse"})  # fmt: skip
    (contest,) = contests(evaluate_runs([tmp_path / "runs"]))
    assert contest.metric == "rmse.x" and contest.best.result.first.experiment == "near"
    assert contest.lead is not None and contest.lead.difference is not None
    assert contest.lead.difference.difference == pytest.approx(0.4) and contest.lead.apart
    assert contest.lead.difference.ci95[0] <= 0.4 <= contest.lead.difference.ci95[1]


def test_a_page_that_cannot_be_written_is_told(two_systems: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmocacheError, match=r"cannot be written to: .*name another with --report"):
        write_page(tmp_path / "file" / "page.html", evaluate_runs([two_systems]), [two_systems])


def test_a_cache_without_corpora_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"--cache: cache .*nowhere does not exist; give the folder"):
        check_places(tmp_path, tmp_path / "page.html", str(tmp_path / "nowhere"), [])
