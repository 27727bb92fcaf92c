"""The table of who gives out which corpus: complete, and told in a few lines."""

from pathlib import Path

import pytest

import emocache
from emocache.extract.corpora import REGISTRY
from emocache.extract.corpora.origins import ORIGINS, led, origin_of, tell_origin

OF_NOBODY = {"audformat", "demo", "huggingface", "lhotse", "table"}


def test_every_corpus_has_an_origin() -> None:
    assert set(ORIGINS) == set(REGISTRY) - OF_NOBODY
    assert all(origin_of(name) is None and tell_origin(name) == "" for name in (*OF_NOBODY, "mine:load"))


@pytest.mark.parametrize("corpus", ORIGINS)
def test_what_is_told(corpus: str) -> None:
    origin, told = ORIGINS[corpus], tell_origin(corpus, "somewhere")
    for part in (corpus, origin.who, origin.page, origin.licence, origin.citation, *origin.layout):
        assert part in told
    assert ("--fetch somewhere" in told) == bool(origin.archives)
    assert bool(origin.steps) != bool(origin.archives)  # it is fetched, or got by hand
    assert "{" not in told


def test_the_page_on_corpora_has_the_same_terms() -> None:
    page = (Path(emocache.__file__).parent / "docs" / "corpora.md").read_text(encoding="utf-8")
    for name, origin in ORIGINS.items():
        assert f"| {origin.who} | {origin.page} | {origin.licence} |" in page, name


def test_addresses_lead_to_zenodo_or_to_a_mirror_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMOCACHE_ZENODO", raising=False)
    (archive,) = ORIGINS["ravdess"].archives
    assert led(archive) == "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip"
    monkeypatch.setenv("EMOCACHE_ZENODO", "http://127.0.0.1:1/")
    assert led(ORIGINS["cafe"].record) == "http://127.0.0.1:1/api/records/1478765"
    (archive,) = ORIGINS["emodb"].archives
    assert led(archive) == archive
