"""What a stream serves, and what it says of what it does not."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.cache import Cache, EmocacheError, InputFailure, Manifest, Stream, Word

from .conftest import (
    CORPUS,
    IDS,
    assert_serves,
    fill,
    item,
    manifest,
    plain_recipe,
    recipe,
    row,
    snapshot,
    table_recipe,
    utterance,
)


@pytest.fixture
def stream(cache: Cache, backend: str) -> Stream:
    """A stream of all of IDS but the last two, one of which has failed."""
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe(), backend=backend)
    fill(writer, {i: item(i, recipe()) for i in IDS[:4]}, {IDS[4]: InputFailure("no_audio", "silence")}, units=3)
    return cache.stream(CORPUS, "toy")


def test_reading(stream: Stream) -> None:
    assert_serves(stream, {i: item(i, recipe()) for i in IDS[:4]})
    assert stream.missing == [IDS[5]] and stream.stale == 0 and len(stream) == 4
    assert IDS[0] in stream and IDS[5] not in stream and 7 not in stream
    assert stream.dim == 5 and stream.rate is None and stream.dtype == np.float16 and stream.name == "toy"
    for wanted in ([IDS[2], IDS[0], IDS[3]], [IDS[1]], [], [IDS[0], IDS[2], IDS[0]]):
        frames, offsets = stream.read_many(wanted)
        assert frames.dtype == np.float16 and offsets.dtype == np.int64 and len(offsets) == len(wanted) + 1
        for i, start, end in zip(wanted, offsets, offsets[1:], strict=False):
            np.testing.assert_array_equal(frames[start:end], stream.read(i))
        assert stream.lengths(wanted).tolist() == np.diff(offsets).tolist()
    frames, offsets = stream.array()
    np.testing.assert_array_equal(frames, np.concatenate([stream.read(i) for i in sorted(IDS[:4])]))
    assert len(frames) == stream.frames == offsets[-1]
    assert all(stream.check(i) for i in stream.ids)


def test_the_digest_tells_what_was_read_in_any_order(stream: Stream) -> None:
    ids = stream.ids
    lines = "".join(sorted(f"{i}\t{stream.crc32c(i):08x}\n" for i in ids))
    assert stream.digest(ids) == hashlib.sha256(lines.encode()).hexdigest()
    assert stream.digest(ids[::-1]) == stream.digest([*ids, ids[0]]) == stream.digest(ids)
    assert stream.digest(ids[1:]) != stream.digest(ids)


def test_what_is_absent_is_explained(stream: Stream) -> None:
    for wanted, complaint in [
        (IDS[4], f"toy/toy: utterance '{IDS[4]}' could not be encoded (no_audio: silence)"),
        (IDS[5], f"toy/toy: utterance '{IDS[5]}' is not extracted yet; run `emocache extract toy` again"),
        ("nobody", "toy/toy: utterance 'nobody' is not in the corpus's manifest"),
    ]:
        calls: list[Any] = [stream.read, stream.times, stream.aux, stream.crc32c, stream.check]
        for call in [*calls, lambda i: stream.read_many([IDS[0], i]), lambda i: stream.lengths([i])]:
            with pytest.raises(EmocacheError) as caught:
                call(wanted)
            assert str(caught.value) == complaint


def test_which_stream_is_meant(cache: Cache) -> None:
    with pytest.raises(EmocacheError, match=r"does not exist|holds no corpus, and is no cache"):
        cache.stream(CORPUS, "toy")
    cache.put_manifest(manifest())
    with pytest.raises(EmocacheError, match=r"has no corpus 'toys'; did you mean 'toy'\? it has: toy"):
        cache.stream("toys", "toy")
    with pytest.raises(EmocacheError, match=r"corpus name '\.\./toy': lower-case letters"):
        cache.stream("../toy", "toy")
    with pytest.raises(EmocacheError, match="corpus 'toy' has no stream 'toy'; it has: none"):
        cache.stream(CORPUS, "toy")
    one = cache.create_stream(CORPUS, "toy", recipe(window={"hop": 1, "same": 0}))
    two = cache.create_stream(CORPUS, "toy", recipe(window={"hop": 2, "same": 0}, dtype="float32"))
    other = cache.create_stream(CORPUS, "toy.L2", recipe(layer=2))
    with pytest.raises(EmocacheError) as caught:
        cache.stream(CORPUS, "toy")
    message = str(caught.value)
    assert message.startswith("corpus 'toy' has 2 streams 'toy'; say which: toy@")
    for writer, hop, dtype in ((one, 1, "float16"), (two, 2, "float32")):
        assert f"toy@{writer.fingerprint[:12]} (20" in message  # and its date
        assert f"dtype='{dtype}', window.hop={hop})" in message
        assert cache.stream(CORPUS, f"toy@{writer.fingerprint}").fingerprint == writer.fingerprint
        assert cache.stream(CORPUS, f"toy@{writer.fingerprint[:5]}").fingerprint == writer.fingerprint
    assert "same" not in message and "encoder" not in message
    assert cache.stream(CORPUS, "toy.L2").fingerprint == other.fingerprint
    with pytest.raises(EmocacheError, match=r"no stream 'toy@f00'; of toy it has: toy@.*window.hop=.*; toy@"):
        cache.stream(CORPUS, "toy@f00")


def test_a_stream_keeps_the_backend_it_was_created_with(cache: Cache) -> None:
    cache.put_manifest(manifest())
    assert cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5").backend == "hdf5"
    assert cache.create_stream(CORPUS, "toy", recipe(), backend="zarr").backend == "hdf5"
    with pytest.raises(EmocacheError, match="unknown backend 'tape'; known: zarr, hdf5"):
        cache.create_stream(CORPUS, "toy", recipe(), backend="tape")
    for name in ("../toy", "", "a/b", "a..b", "a@b"):
        with pytest.raises(EmocacheError, match="stream name"):
            cache.create_stream(CORPUS, name, recipe())


def test_a_damaged_recipe_hides_no_other_stream(cache: Cache) -> None:
    cache.put_manifest(manifest())
    for name in ("toy", "other"):
        fill(cache.create_stream(CORPUS, name, recipe(encoder=name)), {"a": item("a", recipe())})
    objects = cache.create_stream(CORPUS, "toy", recipe(encoder="toy")).objects
    objects.replace("recipe.json", objects.get("recipe.json").replace(b"float16", b"float32"))
    assert cache.stream(CORPUS, "other").ids == ["a"]
    with pytest.raises(EmocacheError, match=r"toy@\w{12}/recipe.json: damaged, its checksum does not match; restore"):
        cache.stream(CORPUS, "toy")


@pytest.mark.parametrize(
    ("inputs", "fields", "stale"),
    [
        (["audio"], {"version": 1}, True),
        (["audio"], {"start": 0.5}, True),
        (["audio"], {"end": 0.9}, True),
        (["audio"], {"text": "other", "words": (Word("a", 0, 1),), "speaker": "x", "labels": {"e": "sad"}}, False),
        (["text"], {"text": "other"}, True),
        (["text"], {"version": 1, "start": 0.5}, False),
        (["text", "words"], {"words": (Word("a", 0.0, 1.0),)}, True),
        (["video"], {"version": 1}, False),  # it has no video
    ],
)  # fmt: skip
def test_an_item_is_stale_exactly_if_an_input_it_declares_has_changed(
    tmp_path: Path, inputs: list[str], fields: dict[str, Any], stale: bool
) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    items = {i: item(i, recipe()) for i in IDS[:3]}
    writer = cache.create_stream(CORPUS, "toy", recipe(inputs=inputs), backend="hdf5")
    fill(writer, items, {IDS[3]: InputFailure("empty", "")})
    before = snapshot(cache.stream(CORPUS, "toy"))
    changed = dict(fields)
    version = changed.pop("version", 0)
    rows = [utterance(i, version, **changed) if i in (IDS[0], IDS[3]) else utterance(i) for i in IDS]
    cache.put_manifest(Manifest.from_utterances(CORPUS, rows))
    stream = cache.stream(CORPUS, "toy")
    assert stream.stale == int(stale) and (IDS[0] in stream) != stale and (IDS[3] in stream.failures) != stale
    assert (IDS[0] in stream.missing) == stale
    if stale:
        with pytest.raises(EmocacheError, match="not extracted yet"):
            stream.read(IDS[0])
    cache.put_manifest(manifest())
    assert snapshot(cache.stream(CORPUS, "toy")) == before  # nothing was forgotten


def test_utterances_that_leave_the_manifest(cache: Cache) -> None:
    cache.put_manifest(manifest())
    items = {i: item(i, recipe()) for i in IDS}
    fill(cache.create_stream(CORPUS, "toy", recipe()), items)
    cache.put_manifest(manifest(IDS[2:]))
    stream = cache.stream(CORPUS, "toy")
    assert_serves(stream, {i: items[i] for i in IDS[2:]})
    assert stream.stale == 2


def test_open_maps_are_bounded(tmp_path: Path) -> None:
    """More shards than a process may open files are read in any order."""
    ids = [f"{n:03d}" for n in range(150)]
    made_from = plain_recipe(dim=2)
    cache = Cache(tmp_path)
    cache.put_manifest(manifest(ids))
    writer = cache.create_stream(CORPUS, "toy", made_from, backend="hdf5")
    items = {i: item(i, made_from) for i in ids}
    for n, i in enumerate(ids):
        writer.commit(f"{n:016x}", {i: items[i]})
    stream = cache.stream(CORPUS, "toy")
    descriptors = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    before = len(list(descriptors.iterdir()))
    views = [stream.read(i) for i in ids * 2]
    del views
    assert len(list(descriptors.iterdir())) - before <= 130
    for i in np.random.default_rng(0).permutation(ids):
        np.testing.assert_array_equal(stream.read(str(i)), items[str(i)].frames.astype(np.float16))
    np.testing.assert_array_equal(stream.array()[0], np.concatenate([stream.read(i) for i in ids]))


def test_rows_of_a_table(cache: Cache) -> None:
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "words", table_recipe())
    fill(writer, {i: row(i) for i in IDS[:4]}, {IDS[4]: InputFailure("no_text", "none given")}, units=2)
    stream = cache.stream(CORPUS, "words")
    assert {i: stream.row(i) for i in stream.ids} == {i: row(i) for i in IDS[:4]}
    assert all(stream.check(i) for i in stream.ids)
    assert stream.failures == {IDS[4]: ("no_text", "none given")} and stream.missing == [IDS[5]]
    with pytest.raises(EmocacheError, match="no_text: none given"):
        stream.row(IDS[4])
    for frames in (stream.read, stream.times, stream.aux, lambda i: stream.read_many([i]), lambda _: stream.dim):
        with pytest.raises(EmocacheError, match=r"words is a table and has no frames; read it with row\(id\)"):
            frames(IDS[0])


def test_a_shard_that_is_gone_or_short(tmp_path: Path, backend: str) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    fill(cache.create_stream(CORPUS, "toy", recipe(), backend=backend), {i: item(i, recipe()) for i in IDS})
    [shard] = tmp_path.glob(f"{CORPUS}/*/shards/*")
    data = shard / "frames" / "c" / "0" / "0" if shard.is_dir() else shard
    whole = data.read_bytes()
    data.write_bytes(whole[:20])
    with pytest.raises(EmocacheError, match="is shorter than its record says; run `emocache cache verify --full`"):
        cache.stream(CORPUS, "toy").read(IDS[0])
    data.unlink()
    with pytest.raises(EmocacheError, match="is gone; `emocache cache verify` tells what to do"):
        cache.stream(CORPUS, "toy").read(IDS[0])


def test_a_stream_needs_no_index_and_no_write_access(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    fill(cache.create_stream(CORPUS, "toy", recipe(), backend="hdf5"), {i: item(i, recipe()) for i in IDS})
    expected = snapshot(cache.stream(CORPUS, "toy"))
    [index] = tmp_path.glob(f"{CORPUS}/*/index.arrow")
    index.unlink()
    before = sorted(tmp_path.rglob("*"))
    assert snapshot(Cache(tmp_path).stream(CORPUS, "toy")) == expected
    assert sorted(tmp_path.rglob("*")) == before


def test_streams_of_one_name_are_told_apart_in_a_line(cache: Cache) -> None:
    """Also by what is long, such as the speakers that a PCA was fitted on."""
    cache.put_manifest(manifest())
    speakers = [f"speaker-{k:03}" for k in range(200)]
    for few in (speakers, speakers[:100]):
        cache.create_stream(CORPUS, "toy", recipe(fitted={"speakers": few}))
    with pytest.raises(EmocacheError) as both:
        cache.stream(CORPUS, "toy")
    told = str(both.value)
    assert "has 2 streams" in told and len(told) < 600 and told.count("speaker-") == 2
    assert "200 values, the first 'speaker-000'" in told and "100 values, the first 'speaker-000'" in told
