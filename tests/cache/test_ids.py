"""Ids as one column read like a sorted list of them, and bulk keys are those of utterances one by one."""

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emocache.cache import Manifest, Media, Utterance, Word, ids
from emocache.cache.ids import Ids
from emocache.cache.recipe import item_key
from emocache.cache.stream_keys import StreamKeys, flat_keys

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), unique=True, max_size=40)


@settings(deadline=None)
@given(NAMES, st.integers(1, 9), st.data())
def test_ids_are_the_sorted_list(names: list[str], sampled: int, data: st.DataObject) -> None:
    plain = sorted(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_SAMPLED", sampled)  # so that a search passes from the sample into blocks
        column = pa.chunked_array([plain[: len(plain) // 2], plain[len(plain) // 2 :]], pa.string())
        found = Ids(column)
        assert found == plain and list(found) == plain and len(found) == len(plain)
        other = data.draw(NAMES)
        for name in plain + other:
            assert found.position(name) == (plain.index(name) if name in plain else None)
            assert (name in found) == (name in plain)
        for asked in (other, plain[::-1], other + plain):
            assert found.positions(asked).tolist() == [plain.index(n) if n in plain else -1 for n in asked]
        assert found.without(other[::2], Ids(pa.array(sorted(other[1::2]), pa.string()))) == [
            name for name in plain if name not in other
        ]
        assert found[::-1] == plain[::-1] and found[1:5:2] == plain[1:5:2]
        assert pickle.loads(pickle.dumps(found)) == plain
    assert found != [*plain, "x"] and found != "x" and not found.__contains__(5)


def test_an_id_that_no_text_can_be_is_not_there() -> None:
    assert Ids(pa.array(["a"])).position("\udc80") is None


FILES = (Media("audio", "a.wav", "1" * 64), Media("video", "a.mp4", "2" * 64, reading="mono"))
ROWS = [
    Utterance("a", FILES, start=0.5, end=1.25, text='say "ä"\n'),
    Utterance("b", FILES[1:], text=None),
    Utterance("c", (), words=(Word("x", 0.0, 0.1), Word("語", 0.25, 1e-7))),
    Utterance("d", (Media("audio", "d.wav", "3" * 64, 1.0, None, (0.0, 0.25, 0.5, 1.0)), *FILES), start=9.0),
    Utterance("ü/é", FILES[::-1], end=2.0),
]
OTHER = {"stream": "e" * 64, "inputs": ["words", "video"]}


@pytest.mark.parametrize("inputs", [[], ["audio"], ["video", "text"], ["words", "audio", OTHER], [OTHER]])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:3]])
def test_bulk_keys_are_those_of_utterances(inputs: list[Any], rows: list[Utterance]) -> None:
    manifest = Manifest.from_utterances("toy", rows)
    expected = {u.id: item_key("f" * 64, u.id, u.inputs_sha256(inputs)) for u in rows}
    assert manifest.item_keys("f" * 64, inputs) == expected
    some = [*list(expected)[1:], "unknown"]
    assert manifest.item_keys("f" * 64, inputs, some) == {i: expected[i] for i in some[:-1]}
    assert [u.id for u in manifest.rows(some)] == some[:-1]
    keys = StreamKeys(manifest, "f" * 64, inputs)
    assert keys.of(some) == keys.of(some[::-1]) == {i: expected[i] for i in some[:-1]}
    asked = [*expected, "unknown", *expected]
    column = pa.chunked_array([[bytes.fromhex(expected.get(i, "0" * 64)) for i in asked]], pa.binary(32))
    assert keys.are(pa.chunked_array([asked]), flat_keys(column)).tolist() == [i in expected for i in asked]
    flipped = (flat_keys(column).view(np.uint8) ^ 1).view("V32")
    assert not keys.are(pa.chunked_array([asked]), flipped).any()
