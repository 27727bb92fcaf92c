"""The store that the first version of the format wrote, read for ever."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emocache.cache import Cache, EmocacheError, InputFailure, Item, Manifest, Stream
from emocache.cache.copy import copy
from emocache.cache.frames.projection import Projection
from emocache.cache.gc import collect
from emocache.cache.manifest_rows import to_parquet
from emocache.cache.recordings import shared_recordings
from emocache.cache.verify import verify

from .conftest import fill

STORE = Path(__file__).parents[1] / "data" / "store-v1"
IDS = ["anna/01", "anna/02", "béla/01", "béla/02", "béla/empty", "chen 1", "chen 2"]
SERVED = [i for i in IDS if i not in ("béla/empty", "chen 2")]
FAILED = {"béla/empty": ("empty", "béla/empty.wav has 0 bytes")}


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache(STORE)


def expected(utterance_id: str) -> tuple[list[list[float]], list[list[float]], list[bool], list[list[float]]]:
    """Frames, times, face_found and box, number by number."""
    n = IDS.index(utterance_id)
    frames = [[((n * 31 + t * 7 + d * 3) % 64 - 32) / 16 for d in range(6)] for t in range(n + 2)]
    times = [[t * 0.04, t * 0.04 + 0.1] for t in range(n + 2)]
    boxes = [[(t * 4 + k + n) / 8 for k in range(4)] for t in range(n + 2)]
    return frames, times, [t % 3 == 0 for t in range(n + 2)], boxes


def test_it_is_whole_and_small(cache: Cache) -> None:
    assert list(verify(cache, full=True)) == []
    assert sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file()) < 200_000
    assert cache.corpora() == ["small"]
    assert [(info.name, info.backend) for info in cache.streams("small")] == [
        ("alpha.L2", "zarr"), ("alpha.L2.pca2", "zarr"), ("beta.L2", "hdf5"), ("transcripts", "zarr"),
    ]  # fmt: skip


def test_its_manifest(cache: Cache) -> None:
    manifest = cache.manifest("small")
    assert manifest.ids == IDS and len(list(STORE.glob("small/manifests/*.parquet"))) == 2
    for n, utterance in enumerate(manifest):
        assert (utterance.start, utterance.end, utterance.duration) == (0.5 * n, 0.5 * n + 1, 9.0)
        assert (utterance.speaker, utterance.session) == (IDS[n][:4], f"s{n % 2}")
        assert (utterance.culture, utterance.language, utterance.gender) == ("XX", "en", "fm"[n % 2])
        assert utterance.split == ("train", "valid", "test")[n % 3] and utterance.text == f"text of {IDS[n]}"
        assert [(w.word, w.start, w.end) for w in utterance.words] == [("text", 0.0, 0.25), ("of", 0.25, 0.5)]
        emotion = {"emotion": ("happy", "sad")[n % 2]}
        assert utterance.labels == ({**emotion, "arousal": n / 4} if n else {"emotion": "sad"})
        assert utterance.media[0].path == f"wav/{n}.wav" and utterance.media[0].sha256 == f"{n + n // 6:064x}"
        if n % 2:
            track = utterance.tracks["valence"]
            assert track.times.tolist() == [0.0, 0.1, 0.2] and track.values.tolist() == [-n, 0.125 - n, 0.25 - n]


def test_its_recordings(cache: Cache) -> None:
    """Its media have no segments and no regions of their own."""
    manifest = cache.manifest("small")
    assert shared_recordings(manifest) == [()] * len(IDS)
    rows = [replace(row, media=manifest[IDS[0]].media, start=0.0, end=1.0) for row in manifest]
    copies = Manifest.from_utterances("small", rows)
    whole = copies.column("media")
    first = [[{name: medium[name] for name in ("role", "path", "sha256")} for medium in media] for media in whole]
    number = copies.table.column_names.index("media")
    old = Manifest("small", to_parquet(copies.table.set_column(number, "media", pa.array(first))))
    assert shared_recordings(old) == shared_recordings(copies) and all(shared_recordings(old))


@pytest.mark.parametrize("name", ["alpha.L2", "beta.L2"])
def test_its_frames(cache: Cache, name: str) -> None:
    stream = cache.stream("small", name)
    assert stream.ids == SERVED and stream.failures == FAILED
    assert stream.stale == 1 and stream.missing == ["chen 2"]
    assert stream.dim == 6 and stream.rate is None and stream.dtype == np.float16
    for i in stream.ids:
        frames, times, faces, boxes = expected(i)
        assert stream.read(i).dtype == np.float16 and stream.read(i).tolist() == frames
        np.testing.assert_allclose(stream.times(i), times, rtol=1e-15, atol=1e-15)
        assert stream.aux(i)["face_found"].tolist() == faces and stream.aux(i)["box"].tolist() == boxes
        assert stream.check(i)
    assert stream.digest(stream.ids) == "f5f38f910311ea3758f85f18521bc5737befdd610056fcb2bb3668b0da429738"
    frames_of_all, offsets = stream.array()
    assert offsets.tolist() == np.cumsum([0, 2, 3, 4, 5, 7]).tolist() and frames_of_all.shape == (21, 6)


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("alpha.L2", "9c1f635e920054cd6e35441cef5f8ca20d7b58a7cd9aee754e93086104205c8a"),
        ("beta.L2", "910b8407516997b2a8dedc84c365e8e13a8715ffdc7d46518f2c57e87843648f"),
        ("transcripts", "ec834d62f4d4597190c597142f4625f40d0f27db0d7ade9edfef1ed055501e3e"),
    ],
)
def test_its_fingerprints(cache: Cache, name: str, fingerprint: str) -> None:
    """The same recipe gives the same fingerprint and the same keys, or all would be encoded again."""
    assert cache.stream("small", f"{name}@{fingerprint}").fingerprint == fingerprint
    stream = cache.stream("small", name)
    assert not set(stream.missing) - {"chen 2"}


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_definition_of_the_format_page() -> None:
    """Its hashes and checksums, worked out from the page and stock libraries alone."""
    [table] = [pq.read_table(p) for p in STORE.glob("small/manifests/*.parquet") if sha256(p.read_bytes()) in
               (STORE / "small" / "manifest.json").read_text()]  # fmt: skip
    rows = {row["id"]: row for row in table.to_pylist()}
    for path in (*STORE.rglob("recipe.json"), *STORE.rglob("manifest.json"), *STORE.rglob("commits/*"),
                 *STORE.rglob("plans/*")):  # fmt: skip
        document = json.loads(path.read_bytes())
        pretty = path.name in ("recipe.json", "manifest.json")
        text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
        assert path.read_bytes() == (text.encode() if pretty else canonical(document))
        assert document.pop("sha256") == sha256(canonical(document)) and document["format"] == 1
    for folder in STORE.glob("small/*@*"):
        recipe = json.loads((folder / "recipe.json").read_bytes())
        assert recipe["fingerprint"] == sha256(canonical(recipe["recipe"]))
        assert folder.name.endswith("@" + recipe["fingerprint"][:12])
        [plan] = [json.loads(path.read_bytes()) for path in folder.glob("plans/000001.json")]
        for unit, items in plan["units"]:
            assert unit == sha256("\n".join(sorted(key for _, key in items)).encode())[:16]
        for path in folder.glob("commits/*.json"):
            record = json.loads(path.read_bytes())
            assert path.name == f"{record['unit']}.{record['attempt']}.json"
            for name, (size, digest) in record["objects"].items():
                assert (len((folder / name).read_bytes()), sha256((folder / name).read_bytes())) == (size, digest)
            for i, key, *_ in record["items"] + record["failures"]:
                row = rows[i]
                inputs = sha256(canonical([["audio", row["media"][0]["sha256"], row["start"], row["end"]]]))
                current = sha256(f"{recipe['fingerprint']}\n{inputs}\n{i}".encode())
                assert (key == current) == (i != "chen 2")
            arrays = {
                name: np.memmap(folder / where, dtype, "r", offset, tuple(shape))
                for name, (where, offset, dtype, shape) in record["arrays"].items()
            }
            for _, _, first, count, crc in record["items"] if arrays else []:
                chained = 0
                for name in ("frames", "times", "aux/box", "aux/face_found"):
                    chained = google_crc32c.extend(chained, arrays[name][first : first + count].tobytes())
                assert chained == crc
            if recipe["recipe"]["kind"] == "table":
                for entry, row in zip(
                    record["items"], pq.read_table(folder / record["shard"]).to_pylist(), strict=True
                ):
                    assert row.pop("id") == entry[0]
                    assert entry[4] == google_crc32c.value(canonical({k: v for k, v in row.items() if v is not None}))


def test_its_table(cache: Cache) -> None:
    stream = cache.stream("small", "transcripts")
    assert stream.ids == SERVED and stream.failures == FAILED and stream.stale == 1
    for n, i in enumerate(IDS):
        if i in SERVED:
            words = [{"word": "heard", "start": 0.0, "end": n / 8}]
            assert stream.row(i) == {"text": f"heard {i}", "words": words, **({"n": n} if n else {})}
            assert stream.check(i)


def test_its_projection(cache: Cache) -> None:
    stream, source = cache.stream("small", "alpha.L2.pca2"), cache.stream("small", "alpha.L2")
    info = stream.recipe["projection"]
    assert stream.recipe["source"] == source.fingerprint and info["fit_on"] == "speaker=anna|chen"
    assert info["speakers"] == ["anna", "chen"] and info["components"] == stream.dim == 2
    [matrix] = STORE.glob("small/alpha.L2.pca2@*/fitted/*.safetensors")
    projection = Projection.from_bytes(matrix.read_bytes())
    np.testing.assert_allclose(projection.components @ projection.components.T, np.eye(2), atol=1e-12)
    assert stream.ids == source.ids
    for i in stream.ids:
        np.testing.assert_allclose(stream.read(i), projection.apply(source.read(i)), atol=1e-6)
        np.testing.assert_array_equal(stream.times(i), source.times(i))


def test_it_is_gone_on_with(cache: Cache, tmp_path: Path) -> None:
    """What an old version has begun, this one finishes; nothing that is there is made again."""
    root = Path(shutil.copytree(STORE, tmp_path / "store"))
    ours = Cache(root)
    for name in ("alpha.L2", "beta.L2"):
        [info] = ours.streams("small", name)
        writer = ours.create_stream("small", name, info.recipe)
        frames, times, faces, boxes = expected("chen 2")
        new = Item(np.array(frames), np.array(times), {"face_found": np.array(faces), "box": np.array(boxes, "f4")})
        everything = {i: new for i in IDS if i != "béla/empty"}
        assert fill(writer, everything, {"béla/empty": InputFailure("empty", "")}) == ["chen 2"]
        stream = ours.stream("small", name)
        assert stream.ids == sorted([*SERVED, "chen 2"]) and stream.read("chen 2").tolist() == frames
    assert collect(ours, 0.0) == ([], 0) and list(verify(ours, full=True)) == []


def test_it_is_copied(cache: Cache) -> None:
    target = Cache("memory://")
    copy(cache, target, cache.streams("small"))
    for name in ("alpha.L2", "beta.L2"):
        ours, theirs = target.stream("small", name), cache.stream("small", name)
        assert ours.digest(ours.ids) == theirs.digest(theirs.ids) and ours.failures == theirs.failures
    assert list(verify(target, full=True)) == []


def test_it_says_what_it_does_not_serve(cache: Cache) -> None:
    stream: Stream = cache.stream("small", "beta.L2")
    with pytest.raises(EmocacheError, match=r"'béla/empty' could not be encoded \(empty: béla/empty.wav has 0 bytes\)"):
        stream.read("béla/empty")
    with pytest.raises(EmocacheError, match="'chen 2' is not extracted yet"):
        stream.read("chen 2")
