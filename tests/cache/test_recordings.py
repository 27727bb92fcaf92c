"""What is one recording: the same bytes, and of a file that is cut the same segment."""

from typing import Any

import numpy as np
import pytest

from emocache.cache import Manifest, Media, Utterance
from emocache.cache.recordings import components, shared_recordings

A, B, EMPTY = "a" * 64, "b" * 64, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def shared(*utterances: Utterance) -> list[int]:
    """How many recordings each utterance shares."""
    return [len(own) for own in shared_recordings(Manifest.from_utterances("toy", utterances))]


def of(id_: str, *media: Media, **fields: Any) -> Utterance:
    return Utterance(id_, media=media or (Media("audio", f"{id_}.wav", A),), **fields)


LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
CASES: dict[str, tuple[Utterance, Utterance, int]] = {
    "the same bytes": (of("1"), of("2"), 1),
    "other bytes": (of("1"), of("2", Media("audio", "1.wav", B)), 0),
    "the same segment of one file": (of("1", start=1.0, end=2.0), of("2", start=1.0, end=2.0), 1),
    "turns of one file": (of("1", start=1.0, end=2.0), of("2", start=2.0, end=3.0), 0),
    "turns that overlap": (of("1", start=1.0, end=2.0), of("2", start=1.5, end=2.5), 0),
    "a whole file and all of it": (of("1", duration=2.5), of("2", start=0.0, end=2.5, duration=2.5), 1),
    "a turn and the file": (of("1", duration=9.0), of("2", start=0.0, end=2.5, duration=2.5), 0),
    "files without bytes": (of("1", Media("audio", "1.wav", EMPTY)), of("2", Media("audio", "2.wav", EMPTY)), 0),
    "files without a second": (of("1", duration=0.0), of("2", duration=0.0), 0),
    "sound of one that is the picture of the other": (of("1"), of("2", Media("video", "2.mp4", A)), 1),
    "one of two media": (
        of("1", Media("audio", "1.wav", B), Media("video", "v.mp4", A)),
        of("2", Media("video", "v.mp4", A)),
        1,
    ),
    "halves of a picture": (
        of("1", Media("video", "v.mp4", A, region=LEFT)),
        of("2", Media("video", "v.mp4", A, region=RIGHT)),
        0,
    ),
    "a segment of the medium's own": (
        of("1", Media("video", "v.mp4", A, start=3.0, end=4.0), start=0.0, end=1.0),
        of("2", start=3.0, end=4.0),
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_one_recording(name: str) -> None:
    one, other, count = CASES[name]
    assert shared(one, other) == [count, count]


def test_an_utterance_shares_nothing_with_itself() -> None:
    """Sound and picture of one file."""
    assert shared(of("1", Media("audio", "v.mp4", A), Media("video", "v.mp4", A)), Utterance("2")) == [0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_components_are_what_spreads_from_row_to_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    held = [tuple(random.choice(30, size=random.integers(0, 3)).tolist()) for _ in range(25)]
    reached = [{row} for row in range(25)]
    for _ in range(25):
        for one in range(25):
            for other in range(25):
                if set(held[one]) & set(held[other]) or reached[one] & reached[other]:
                    reached[one] |= reached[other]
    found = components(held)
    assert all((found[a] == found[b]) == (b in reached[a]) for a in range(25) for b in range(25))
