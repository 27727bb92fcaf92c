"""Sealed documents: any change of their bytes is noticed, and a newer format is told as such."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocache.cache import Cache, DamagedError, EmocacheError
from emocache.cache import sealed as sealed_
from emocache.cache.sealed import seal, unseal

from .conftest import CORPUS, IDS, fill, item, manifest, recipe

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text().filter(lambda name: name not in ("format", "sha256")), values, max_size=4)


@given(documents, st.booleans())
def test_round_trip(document: dict[str, Any], pretty: bool) -> None:
    data = seal(document, pretty=pretty)
    assert unseal(data, "it") == document
    assert json.loads(data)["format"] == 1 and len(json.loads(data)["sha256"]) == 64
    assert seal(dict(reversed(document.items())), pretty=pretty) == data  # whatever order it was built in


@pytest.mark.parametrize("pretty", [False, True])
def test_every_flipped_bit_is_noticed(pretty: bool) -> None:
    data = seal({"id": "ü", "items": [["a", 1, 2.5]], "none": None}, pretty=pretty)
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(
            DamagedError, match=r"^it: damaged, its checksum does not match; restore it from a copy, or"
        ):
            unseal(bytes(damaged), "it")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"7", b"null", b'{"sha256": 1}', b"\xff", b"NaN", b'{"a":1e999}'])
def test_other_bytes_are_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError):
        unseal(data, "it")


def test_nan_has_no_place_in_a_document() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal({"a": float("nan")})


@pytest.mark.parametrize("written", ["record", "recipe", "plan", "manifest"])
def test_a_newer_format_is_not_mistaken_for_damage(cache: Cache, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what a newer version committed would count as absent and be encoded again."""
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    fill(writer, {"a": item("a", recipe())})
    path = {"record": f"commits/{writer.objects.names('commits')[0]}", "recipe": "recipe.json",
            "plan": "plans/000001.json", "manifest": "manifest.json"}[written]  # fmt: skip
    objects = cache.objects.below(CORPUS) if written == "manifest" else writer.objects
    document = unseal(objects.get(path), path)
    with monkeypatch.context() as patch:
        patch.setattr(sealed_, "FORMAT", 2)
        objects.replace(path, seal(document))
    writer.objects.delete("index.arrow")
    with pytest.raises(EmocacheError, match=r"has format 2, this emocache reads format 1; update emocache") as caught:
        fill(cache.create_stream(CORPUS, "toy", recipe()), {IDS[1]: item("b", recipe())})
        cache.stream(CORPUS, "toy")
    assert not isinstance(caught.value, DamagedError)
