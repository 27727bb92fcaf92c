"""Figure 2 of the CAMuLeNet paper: what a corpus consists of."""

import csv
import itertools
from collections import Counter
from pathlib import Path

import pytest
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from typer.testing import CliRunner

from emocache.cache import Cache, EmocacheError, Manifest, Utterance
from emocache.evaluate.cli import composition as command
from emocache.evaluate.output.figures.composition import MOST_SLICES, composition, draw, save_composition


def manifest(speakers: int = 3, gender: tuple[str | None, ...] = ("female", None, "male", "female")) -> Manifest:
    """Speaker k has k + 1 utterances."""
    utterances = []
    for k in range(speakers):
        for i in range(k + 1):
            labels = {"emotion": ("happy", "sad")[i % 2], "level": float(i % 2)}
            who = {"speaker": f"s{k:02}", "gender": gender[k % len(gender)]}
            utterances.append(Utterance(f"{k:02}-{i:02}", **who, labels=labels))  # type: ignore[arg-type]
    return Manifest.from_utterances("corpus", utterances)


def test_counts_against_the_utterances() -> None:
    corpus = manifest()
    for column in ("gender", "speaker", "emotion", "level"):
        own = [getattr(u, column, None) or u.labels.get(column) for u in corpus]
        expected = Counter("unknown" if value is None else str(value) for value in own)
        assert composition(corpus, column).counts == expected
    assert list(composition(corpus, "speaker").counts.items()) == [("s02", 3), ("s01", 2), ("s00", 1)]
    assert list(composition(corpus, "gender").counts.items()) == [("male", 3), ("female", 1), ("unknown", 2)]


def test_a_corpus_without_gender_is_one_slice_of_unknown() -> None:
    own = composition(manifest(gender=(None,)), "gender")
    assert own.counts == own.slices == {"unknown": 6}


@pytest.mark.parametrize(("speakers", "others"), [(MOST_SLICES, 0), (MOST_SLICES + 1, 2), (MOST_SLICES + 8, 9)])
def test_the_rarest_share_a_slice(speakers: int, others: int) -> None:
    own = composition(manifest(speakers), "speaker")
    assert own.others == [f"s{k:02}" for k in reversed(range(others))]
    assert len(own.slices) == MOST_SLICES and sum(own.slices.values()) == sum(own.counts.values())
    if others:
        assert list(own.slices.items())[-1] == (f"{others} others", sum(range(others + 1)))


def test_the_unknown_stay_apart_from_the_others() -> None:
    utterances = [Utterance(f"u{i}", speaker=f"s{i:02}" if i < 20 else None) for i in range(25)]
    own = composition(Manifest.from_utterances("corpus", utterances), "speaker")
    assert len(own.slices) == MOST_SLICES
    assert list(own.slices.items())[-3:] == [("s09", 1), ("10 others", 10), ("unknown", 5)]


def test_files(tmp_path: Path) -> None:
    corpus = manifest(MOST_SLICES + 1)
    table, picture = save_composition(tmp_path / "out", corpus)
    assert picture.name == "composition-corpus.png" and picture.read_bytes()[:4] == b"\x89PNG"
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for column in ("gender", "speaker", "emotion"):
        own = [line for line in lines if line["column"] == column]
        assert {line["value"]: int(line["utterances"]) for line in own} == composition(corpus, column).counts
        assert sum(float(line["share"]) for line in own) == pytest.approx(1)
    assert [line["slice"] for line in lines if line["value"] in ("s00", "s02")] == ["s02", "2 others"]
    again = save_composition(tmp_path / "again", corpus)
    assert [path.read_bytes() for path in again] == [table.read_bytes(), picture.read_bytes()]


@pytest.mark.parametrize("columns", [["emotion"], ["gender", "emotion"], ["gender", "speaker", "emotion"] * 2])
@pytest.mark.parametrize("speakers", [2, 9, 30])
def test_every_text_is_in_the_picture_and_beside_the_others(columns: list[str], speakers: int) -> None:
    corpus = manifest(speakers)
    figure = draw([composition(corpus, column) for column in columns], "corpus, some utterances")
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw(renderer)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for box, text in zip(boxes, texts, strict=True):
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert inside and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()
    for (one, a), (other, b) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not a.overlaps(b), (one.get_text(), other.get_text())


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmocacheError, match=r"file cannot be written to: .*; name another folder with --out"):
        save_composition(tmp_path / "file", manifest())


def test_a_column_that_is_not_there_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=r"no column 'mood'; it has: speaker, .*emotion"):
        save_composition(tmp_path / "out", manifest(), ["gender", "mood"])
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path) -> None:
    Cache(tmp_path / "store").put_manifest(manifest())
    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [str(tmp_path / "store"), "corpus", "--out", str(out), "--column", "level"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"written: {out / 'composition-corpus'}{end}" for end in (".csv", ".png")]
    assert {line.split(",")[1] for line in (out / "composition-corpus.csv").read_text().splitlines()[1:]} == {"level"}
