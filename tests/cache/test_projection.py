"""PCA from moments equals PCA of all frames, also where an offset channel would ruin a careless sum."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.decomposition import PCA

from emocache.cache import Cache, DamagedError, EmocacheError, InputFailure, Item
from emocache.cache.frames import projection
from emocache.cache.frames.projection import MAX_DIM, Gram, Projection, Sample, fit_frames, fit_pca
from emocache.extract.pipeline.projecting import project

from .conftest import CORPUS, IDS, fill, item, manifest, recipe

Frames = npt.NDArray[np.float32]


def frames(offset: float, count: int = 3000, dim: int = 24) -> Frames:
    """Frames whose leading eigenvalues are well apart; channel 3 lies far from zero."""
    random = np.random.default_rng(1)
    mixing = np.linalg.qr(random.standard_normal((dim, dim)))[0] * 2.0 ** -np.arange(dim)
    mixed = random.standard_normal((count, dim)) @ mixing.T
    mixed[:, 3] += offset
    return np.asarray(mixed, np.float32)


def moments(parts: list[Frames]) -> Gram:
    found = Gram(parts[0].mean(axis=0, dtype=np.float64))
    for part in parts:
        found.add(part)
    return found


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_equals_the_full_pca(offset: float) -> None:
    data = frames(offset)
    reference = PCA(8, svd_solver="full").fit(data.astype(np.float64))
    found = fit_pca(moments(np.array_split(data, 7)), 8)
    signs = np.sign((reference.components_ * found.components).sum(axis=1))
    np.testing.assert_allclose(found.components, reference.components_ * signs[:, None], atol=1e-6)
    np.testing.assert_allclose(found.explained_variance, reference.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(found.mean, reference.mean_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.total_variance, data.astype(np.float64).var(axis=0, ddof=1).sum(), rtol=1e-6)
    expected = reference.transform(data.astype(np.float64)) * signs
    np.testing.assert_allclose(found.apply(data), expected, atol=1e-5)
    assert found.apply(data).dtype == np.float32
    assert (found.components[np.arange(8), np.abs(found.components).argmax(axis=1)] > 0).all()


def test_atoms_add_up() -> None:
    data = frames(1e4)
    pilot = data[:100].mean(axis=0, dtype=np.float64)
    whole, atoms = Gram(pilot), [Gram(pilot) for _ in range(5)]
    whole.add(data)
    for n, atom in enumerate(atoms):
        atom.add(data[n::5])
    total = sum(atoms[1:], start=atoms[0])
    assert total.n == whole.n == len(data)
    np.testing.assert_allclose(total.total, whole.total, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(total.gram, whole.gram, rtol=1e-12, atol=1e-9)
    with pytest.raises(ValueError, match="different pilots"):
        whole + Gram(pilot + 1)


def test_round_trip() -> None:
    found = fit_pca(moments([frames(3.0)]), 5)
    back = Projection.from_bytes(found.to_bytes())
    assert found.to_bytes() == back.to_bytes()
    np.testing.assert_array_equal(back.components, found.components)
    assert back.total_variance == found.total_variance


@pytest.mark.parametrize(
    ("count", "components", "complaint"),
    [
        (100, 25, "PCA to 25 components of a 24-dimensional stream: give 1 to 24"),
        (100, 0, "give 1 to 24"),
        (8, 8, "PCA to 8 components needs more than 8 frames, got 8"),
    ],
)
def test_impossible_fits(count: int, components: int, complaint: str) -> None:
    with pytest.raises(EmocacheError, match=complaint):
        fit_pca(moments([frames(0.0)[:count]]), components)
    with pytest.raises(ValueError, match=f"at most {MAX_DIM}"):
        Gram(np.zeros(MAX_DIM + 1))


def test_frames_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frames(1e4)
    whole = fit_pca(moments([data]), 5)
    parts = fit_frames(np.array_split(data, 7), 5)
    np.testing.assert_allclose(parts.components, whole.components, atol=1e-8)
    np.testing.assert_allclose(parts.explained_variance, whole.explained_variance, rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_stream_too_wide_for_a_gram_matrix_is_close_to_the_full_pca(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = frames(offset)
    whole = fit_pca(moments([data]), 5)
    monkeypatch.setattr(projection, "MAX_DIM", 20)
    wide = fit_frames(np.array_split(data, 7), 5)  # all frames fit the sample
    np.testing.assert_allclose(wide.components, whole.components, atol=1e-4)
    np.testing.assert_allclose(wide.explained_variance, whole.explained_variance, rtol=1e-3)
    np.testing.assert_allclose(wide.total_variance, whole.total_variance, rtol=1e-3)
    monkeypatch.setattr(projection, "SAMPLE_BYTES", 1500 * 24 * 4)
    half = fit_frames(np.array_split(data, 7), 2)
    cosines = (half.components * whole.components[:2]).sum(axis=1)
    assert (cosines > 0.99).all() and half.components.shape == (2, 24)
    with pytest.raises(EmocacheError, match="PCA to 25 components of a 24-dimensional stream: give 1 to 24"):
        fit_frames([data], 25)


def test_a_sample_is_drawn_evenly_and_reproducibly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "SAMPLE_BYTES", 400 * 4)
    ramp = np.arange(10_000, dtype=np.float32)[:, None]
    samples = [Sample(1) for _ in range(2)]
    for sample, pieces in zip(samples, (7, 1000), strict=True):
        for part in np.array_split(ramp, pieces):
            sample.add(part)
    assert np.array_equal(samples[0].frames, samples[1].frames) and samples[0].n == 10_000
    assert len(np.unique(samples[0].frames)) == 400
    assert abs(samples[0].frames.mean() - 4999.5) < 3 * 10_000 / np.sqrt(12 * 400)


def run(cache: Cache, components: int = 2, fit_on: str = "all", **changes: Any) -> str:
    options = {"dtype": "float32", "backend": "zarr", "environment": {}, **changes}
    return project(cache, CORPUS, "toy", components, fit_on, **options)


@pytest.fixture
def source(tmp_path: Path) -> Cache:
    """A stream with a failure."""
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    items = {i: item(i, recipe(), frames=9) for i in IDS[:5]}
    fill(writer, items, {IDS[5]: InputFailure("no_audio", "silence")})
    return cache


def test_a_pca_stream(source: Cache) -> None:
    assert run(source) == "toy.pca2"
    stream, projected = source.stream(CORPUS, "toy"), source.stream(CORPUS, "toy.pca2")
    reference = PCA(2, svd_solver="full").fit(stream.array()[0].astype(np.float64))
    signs = np.sign(projected.array()[0][0] / reference.transform(stream.array()[0][:1])[0])
    for i in stream.ids:
        expected = reference.transform(stream.read(i).astype(np.float64)) * signs
        np.testing.assert_allclose(projected.read(i), expected, atol=1e-5)
        np.testing.assert_array_equal(projected.times(i), stream.times(i))
        np.testing.assert_array_equal(projected.aux(i)["box"], stream.aux(i)["box"])
    assert projected.ids == stream.ids and projected.failures == stream.failures and not projected.missing
    info = projected.recipe["projection"]
    assert info["kind"] == "pca" and info["components"] == projected.dim == 2 and info["fit_on"] == "all"
    assert info["ids_sha256"] == hashlib.sha256("\n".join(stream.ids).encode()).hexdigest()
    assert info["frames_digest"] == stream.digest(stream.ids)
    assert info["speakers"] == sorted({i[0] for i in IDS[:5]}) and info["ids"] is None
    assert projected.recipe["source"] == stream.fingerprint
    [matrix] = Path(source.objects.url).glob(f"{CORPUS}/toy.pca2@*/fitted/*")
    assert matrix.stem == info["matrix_sha256"] == hashlib.sha256(matrix.read_bytes()).hexdigest()
    np.testing.assert_allclose(Projection.from_bytes(matrix.read_bytes()).mean, reference.mean_, atol=1e-9)


def test_who_was_seen_is_in_the_recipe(source: Cache) -> None:
    run(source, fit_on="speaker=a|b")
    run(source, fit_on="speaker=a|b")  # goes on with the stream that is there
    run(source, fit_on="speaker=a")
    with pytest.raises(EmocacheError, match=r"has 2 streams 'toy.pca2'; say which: .*projection.fit_on='speaker=a"):
        source.stream(CORPUS, "toy.pca2")
    speakers = [info.recipe["projection"]["speakers"] for info in source.streams(CORPUS, "toy.pca2")]
    assert sorted(speakers) == [["a"], ["a", "b"]]


def test_a_source_that_lacks_what_to_fit_on(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(manifest())
    writer = cache.create_stream(CORPUS, "toy", recipe())
    fill(writer, {"a": item("a", recipe(), frames=9)})
    with pytest.raises(
        EmocacheError, match=r"5 of the utterances to fit the PCA on are not extracted yet, such as '@h'"
    ):
        run(cache)
    run(cache, fit_on="speaker=a")
    fill(writer, {IDS[1]: item(IDS[1], recipe())}, {IDS[2]: InputFailure("undecodable", "codec")})
    run(cache, fit_on="speaker=a")
    stream = cache.stream(CORPUS, "toy.pca2")
    assert stream.ids == ["a", IDS[1]] and list(stream.failures) == [IDS[2]] and len(stream.missing) == 3
    # What failed and was mended in the source is mended here.
    fill(writer, {IDS[2]: item(IDS[2], recipe())}, retry_failed=True)
    run(cache, fit_on="speaker=a")
    assert cache.stream(CORPUS, "toy.pca2").ids == ["a", IDS[1], IDS[2]]


def test_a_damaged_matrix_projects_nothing(source: Cache) -> None:
    run(source)
    [matrix] = Path(source.objects.url).glob(f"{CORPUS}/toy.pca2@*/fitted/*")
    data = bytearray(matrix.read_bytes())
    data[-1] ^= 1
    matrix.write_bytes(data)
    with pytest.raises(DamagedError, match="safetensors: damaged; restore it from a copy, or remove the stream"):
        run(source)


def test_a_projection_that_overflows_is_a_failure(source: Cache) -> None:
    writer = source.create_stream(CORPUS, "wide", recipe(encoder="wide", dtype="float32"))
    items = {i: item(i, recipe(), frames=9) for i in IDS[:5]}
    items["a"] = Item(items["a"].frames * 1e6, items["a"].times, items["a"].aux)
    fill(writer, items, {IDS[5]: InputFailure("no_audio", "silence")})
    options: Any = {"dtype": "float16", "backend": "zarr", "environment": {}}
    project(source, CORPUS, "wide", 2, "speaker=b|d", **options)
    assert source.stream(CORPUS, "wide.pca2").failures["a"][0] == "overflow"
