"""The demo corpus: rendered by eSpeak NG when first asked for, so that everything can be tried without a download."""

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import EmocacheError, Manifest, Track, Utterance, Word
from .demo_render import VERSION
from .files import MediaHasher, Probe, media


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """Thirty synthetic speakers of six languages, twelve clips each, rendered below `root` unless they are there.

    Valence and arousal are given as tracks (10 Hz) and, their means, as labels.

    Args:
        root: the corpus folder; media paths are relative to it.
        mapping: empty: this corpus takes none.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: eSpeak NG is not installed, `root` cannot be written, or a rendered clip was changed.
    """
    del mapping
    folder = root / f"demo-v{VERSION}"
    if not folder.is_dir():
        _render_into(folder)
    try:
        clips = json.loads((folder / "clips.json").read_text(encoding="utf-8"))["clips"]
        probes = hasher.probe(folder / clip["file"] for clip in clips)
        utterances = [_utterance(root, folder, clip, probes) for clip in clips]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise EmocacheError(f"corpus demo: {folder} is damaged ({error}); {_RENDER_AGAIN}") from error
    return Manifest.from_utterances("demo", utterances)


_RENDER_AGAIN = "delete that folder to have it rendered again"


def _render_into(folder: Path) -> None:
    """Render into a sibling and rename it, so that the folder exists only when it is complete."""
    try:
        partial = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
        partial.mkdir(parents=True)
    except OSError as error:
        raise EmocacheError(f"corpus demo: cannot write to {folder.parent} ({error.strerror})") from error
    try:
        # -P: a folder named like a module in the working directory must not be imported in its place.
        command = [sys.executable, "-P", "-m", f"{__package__}.demo_render", str(partial)]
        child = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if child.returncode != 0:
            last = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
            raise EmocacheError(f"corpus demo: {last}")
        try:
            partial.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process was faster, and what it rendered is the same
                raise EmocacheError(f"corpus demo: cannot write {folder} ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _utterance(root: Path, folder: Path, clip: dict[str, Any], probes: Mapping[Path, Probe]) -> Utterance:
    path = folder / clip["file"]
    if probes[path].sha256 != clip["sha256"]:
        raise EmocacheError(f"corpus demo: {path} is not what was rendered; {_RENDER_AGAIN}")
    times = np.asarray(clip["times"], np.float64)
    tracks = {name: Track(times, np.asarray(clip[name], np.float64)) for name in ("valence", "arousal")}
    return Utterance(
        id=clip["id"],
        media=(media(root, path, "audio", probes),),
        duration=probes[path].duration,
        words=tuple(Word(*word) for word in clip["words"]),
        words_source="corpus",
        labels={"emotion": clip["emotion"], **{name: float(track.values.mean()) for name, track in tracks.items()}},
        tracks=tracks,
        **{name: clip[name] for name in ("speaker", "culture", "language", "gender", "split", "text")},
    )
