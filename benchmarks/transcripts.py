"""Word error rate of a Whisper checkpoint on RAVDESS speech: `python -m emocache.benchmarks.transcripts --help`.

Every clip of RAVDESS says one of two known sentences, so the references need no file. Prints the errors, whether the
word times are in order, and the seconds a clip takes.
"""

import argparse
import re
import time
from pathlib import Path

import numpy as np

from emocache.extract.encoders import Clip
from emocache.extract.encoders.checkpoints import read
from emocache.extract.encoders.inference import Runtime
from emocache.extract.encoders.transcript import Transcript
from emocache.extract.media.audio import decode_audio

_SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_ACTORS, _CLIPS, _BATCH = 12, 10, 8


def plain(text: str) -> list[str]:
    """The words in lower case, without punctuation."""
    return re.sub(r"[^\w\s']", " ", text.lower()).split()


def edits(heard: list[str], said: list[str]) -> int:
    """Least number of words put in, left out or changed (Levenshtein)."""
    row = list(range(len(said) + 1))
    for i, word in enumerate(heard, 1):
        before, row = row, [i]
        for j, other in enumerate(said, 1):
            row.append(min(row[-1] + 1, before[j] + 1, before[j - 1] + (word != other)))
    return row[-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="RAVDESS folder with Actor_01, Actor_02, ...")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of a Whisper checkpoint")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    paths: list[Path] = []
    for actor in range(1, _ACTORS + 1):
        found = sorted((options.data / f"Actor_{actor:02d}").glob("03-01-*.*"))
        paths += [found[i] for i in generator.choice(len(found), _CLIPS, replace=False)]
    encoder = Transcript("transcript", read(options.checkpoint), Runtime.create(options.device, "float32"))
    clips = [Clip(path.stem, decode_audio(path)) for path in paths]
    begin = time.perf_counter()
    results = [r for i in range(0, len(clips), _BATCH) for r in encoder.encode(clips[i : i + _BATCH], [None])]
    taken = time.perf_counter() - begin
    words = errors = monotonic = 0
    for clip, result in zip(clips, results, strict=True):
        assert isinstance(result, dict) and clip.audio is not None, result
        row, said = result[None], plain(_SENTENCES[clip.id.split("-")[4]])
        wrong = edits(plain(row["text"]), said)
        words, errors = words + len(said), errors + wrong
        if wrong:
            print(f"{clip.id}: {row['language']} {row['flag']} {row['raw_text']!r}")
        times = [t for word in row["words"] for t in (word["start"], word["end"])]
        monotonic += times == sorted(times) and all(0 <= t <= len(clip.audio) / 16_000 for t in times)
    print(f"{len(clips)} clips, {words} words, {errors} errors, WER {100 * errors / words:.2f} %")
    print(f"word times in order and inside the clip: {monotonic} of {len(clips)}")
    print(f"{taken / len(clips):.2f} s a clip")


if __name__ == "__main__":
    main()
