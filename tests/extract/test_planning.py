"""What is encoded is exactly what is missing, whatever came and went before."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from emocache.cache import Cache

from .light import CORPUS, LightEncoder, extract, manifest, snapshot

IDS = [f"clip{n:02d}" for n in range(24)]


def encoded(root: Path, *args: object, **kwargs: object) -> list[str]:
    """Run; returns the utterances that were encoded, each as often as it was."""
    encoder = LightEncoder()
    of = args[0] if args else manifest(IDS)
    outcome = extract(root, of, [encoder], **kwargs)  # type: ignore[arg-type]
    assert outcome.encoded == encoder.calls.total() and not outcome.unresolved
    return sorted(encoder.calls.elements())


def served(root: Path, name: str = "light") -> dict[str, object]:
    return snapshot(Cache(root).stream(CORPUS, name))


def test_the_first_run_encodes_all_and_the_second_nothing(tmp_path: Path) -> None:
    assert encoded(tmp_path) == IDS
    before = sorted(tmp_path.rglob("*"))
    assert encoded(tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before  # not even a plan


def test_adding_changing_and_removing_one(tmp_path: Path) -> None:
    encoded(tmp_path)
    assert encoded(tmp_path, manifest([*IDS, "new"])) == ["new"]
    assert encoded(tmp_path, manifest([*IDS, "new"], changed=["clip03"])) == ["clip03"]
    assert encoded(tmp_path, manifest(IDS[:-1], changed=["clip03"])) == []
    assert encoded(tmp_path, manifest(IDS[:-1])) == []  # changed back: what was there is current again
    fresh = tmp_path / "fresh"
    extract(fresh, manifest(IDS[:-1]), [LightEncoder()])
    was, is_ = served(fresh), served(tmp_path)
    assert (is_["items"], is_["failures"], is_["missing"]) == (was["items"], was["failures"], was["missing"])


@pytest.mark.parametrize("limits", [(1, 5, None), (5, 5, 24, None), (23, None)])
def test_a_limit_and_then_everything(tmp_path: Path, limits: tuple[int | None, ...]) -> None:
    done = 0
    for limit in limits:
        assert encoded(tmp_path, limit=limit) == IDS[done : limit or 24]
        done = max(done, limit or 24)


@pytest.mark.parametrize("order", list(itertools.permutations([(1, 2), (2, 3), (1, 1)])))
def test_shards_started_at_different_moments(tmp_path: Path, order: tuple[tuple[int, int], ...]) -> None:
    """Worker 1 of 2 and worker 2 of 3 overlap, and neither encodes what the other has."""
    together: list[str] = []
    for shard in order:
        now = encoded(tmp_path, shard=shard)
        assert not set(now) & set(together)
        together += now
        if shard == (1, 1):
            assert sorted(together) == IDS
    assert sorted(together) == IDS


def test_all_shards_together_do_everything(tmp_path: Path) -> None:
    parts = [encoded(tmp_path, shard=(number, 3)) for number in (3, 1, 2)]
    assert sorted(itertools.chain(*parts)) == IDS
    assert all(len(part) >= 6 for part in parts)


def test_shards_deal_out_units_by_where_the_plan_has_them_not_by_what_is_left(tmp_path: Path) -> None:
    """A worker that comes late finds its own share and not that of another."""
    reference = [set(encoded(tmp_path / "a", shard=(number, 2))) for number in (1, 2)]
    first = encoded(tmp_path / "b", shard=(1, 2), limit=None)
    assert set(first) == reference[0]
    assert encoded(tmp_path / "b", shard=(1, 2)) == []
    assert set(encoded(tmp_path / "b", shard=(2, 2))) == reference[1]


def test_a_crash_between_two_streams_of_a_unit_changes_nobodys_share(tmp_path: Path) -> None:
    """One stream of a unit is committed and the other is not: the rest is still that worker's."""
    one = LightEncoder()
    first = extract(tmp_path, manifest(IDS), [one], layers=(None, 1), shard=(1, 2), units=8)
    share = set(one.calls)
    assert first.committed == 2 * len(share)
    for path in sorted(tmp_path.glob(f"{CORPUS}/light.L1@*/commits/*"))[:2]:
        path.unlink()
    other, again = LightEncoder(), LightEncoder()
    extract(tmp_path, manifest(IDS), [other], layers=(None, 1), shard=(2, 2), units=8)
    assert set(other.calls) == set(IDS) - share
    extract(tmp_path, manifest(IDS), [again], layers=(None, 1), shard=(1, 2), units=8)
    assert 0 < len(again.calls) < len(share) and all(layers == [1] for _, layers in again.passes)
    assert len(Cache(tmp_path).stream(CORPUS, "light.L1").ids) == len(IDS)


def test_several_layers_come_out_of_one_pass(tmp_path: Path) -> None:
    one = LightEncoder()
    assert extract(tmp_path, manifest(IDS), [one], layers=(1,)).encoded == 24
    three = LightEncoder()
    outcome = extract(tmp_path, manifest(IDS), [three], layers=(0, 1, None))
    assert sorted(three.calls.elements()) == IDS and outcome.committed == 48
    assert all(layers == [0, None] for _, layers in three.passes)  # the one that is there is left out
    for layer, name in ((0, "light.L0"), (1, "light.L1"), (None, "light")):
        alone = tmp_path / f"alone{layer}"
        extract(alone, manifest(IDS), [LightEncoder()], layers=(layer,))
        assert served(tmp_path, name) == served(alone, name)


def test_layers_that_lack_different_things(tmp_path: Path) -> None:
    extract(tmp_path, manifest(IDS), [LightEncoder()], layers=(1,), limit=10)
    extract(tmp_path, manifest(IDS), [LightEncoder()], layers=(None,), limit=15)
    encoder = LightEncoder()
    outcome = extract(tmp_path, manifest(IDS), [encoder], layers=(1, None))
    # 10 to 14 lack layer 1 alone, 15 and later lack both; both come out of one pass.
    assert sorted(encoder.calls.elements()) == IDS[10:] and outcome.committed == 14 + 9
    for ids, layers in encoder.passes:
        assert layers == ([1] if set(ids) <= set(IDS[10:15]) else [1, None])


def test_several_encoders_over_one_decode(tmp_path: Path) -> None:
    encoders = [LightEncoder("light"), LightEncoder("other", dim=5)]
    extract(tmp_path, manifest(IDS), encoders[:1], limit=7)
    encoders[0].calls.clear()
    outcome = extract(tmp_path, manifest(IDS), encoders)
    assert sorted(encoders[0].calls.elements()) == IDS[7:] and sorted(encoders[1].calls.elements()) == IDS
    assert outcome.encoded == 17 + 24


def test_failures_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    ids = [*IDS[:5], "empty1", "empty2", "loud"]
    assert encoded(tmp_path, manifest(ids)) == sorted(ids)
    failures = Cache(tmp_path).stream(CORPUS, "light").failures
    assert failures["empty1"] == failures["empty2"] == ("empty", "0 samples")
    assert failures["loud"][0] == "overflow" and "does not fit float16" in failures["loud"][1] and len(failures) == 3
    assert encoded(tmp_path, manifest(ids)) == []
    assert encoded(tmp_path, manifest(ids), retry_failed=True) == ["empty1", "empty2", "loud"]
    assert encoded(tmp_path, manifest(ids, changed=["empty2"])) == ["empty2"]
    records = sum(1 for _ in tmp_path.glob(f"{CORPUS}/*/commits/*"))
    assert encoded(tmp_path, manifest(ids, changed=["empty2"]), retry_failed=True) == ["empty1", "empty2", "loud"]
    assert sum(1 for _ in tmp_path.glob(f"{CORPUS}/*/commits/*")) == records  # nothing new to tell


def test_any_history_leaves_what_one_run_gives(tmp_path: Path) -> None:
    """Twelve random runs over a changing corpus: each utterance version is encoded at most once in all of them."""
    random = np.random.default_rng(5)
    everything: list[tuple[str, bool]] = []
    for _ in range(12):
        present = [i for i in IDS if random.random() < 0.7] or IDS[:1]
        changed = [i for i in present if random.random() < 0.2]
        of = int(random.integers(1, 4))
        now = encoded(
            tmp_path, manifest(present, changed), shard=(int(random.integers(1, of + 1)), of),
            limit=int(random.integers(1, 24)) if random.random() < 0.3 else None,
        )  # fmt: skip
        everything += [(i, i in changed) for i in now]
    assert len(everything) == len(set(everything)) and everything
    encoded(tmp_path)
    fresh = tmp_path / "fresh"
    extract(fresh, manifest(IDS), [LightEncoder()])
    assert served(tmp_path)["items"] == served(fresh)["items"] and served(tmp_path)["missing"] == []
