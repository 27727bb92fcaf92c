"""Clips encoded as streams were that somebody has: the same recipes, in a cache."""

import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..cache import Cache, EmocacheError, Manifest, Stream, Utterance
from ..cache.recipe import Recipe
from .given_media import CORPUS, Given
from .goal_run import reach_goals
from .goals.passes import Goal, Making
from .pipeline.projecting import project_with
from .pipeline.stage import Options
from .pipeline.stream_targets import Expected


@dataclass(frozen=True)
class WantedStream:
    """A stream whose numbers are wanted of clips.

    Attributes:
        recipe: all that determines them. fingerprint: of the recipe.
        weights: where those of its encoder were from; None where nobody recorded it.
        matrix: of its projection; None without one, or where it is lost.
    """

    recipe: Recipe
    fingerprint: str
    weights: str | None = None
    matrix: bytes | None = None


@dataclass(frozen=True)
class How:
    """The options of encoding that no recipe decides."""

    checkpoints: Path | None = None
    detector: str | None = None
    device: str = "auto"
    workers: int | None = None
    offline: bool = False


@dataclass
class Places:
    """The places of the frames of clips.

    Attributes:
        of: {utterance: {stream: (stream that serves it, id there)}}.
        failures: {utterance: {stream: why}}.
    """

    of: dict[str, dict[str, tuple[Stream, str]]] = field(default_factory=lambda: defaultdict(dict))
    failures: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))


def encode_given(cache: Cache, given: Given, wanted: Mapping[str, WantedStream], how: How) -> Places:
    """Bring clips into streams of a cache, as far as they are in none of its corpora yet.

    Args:
        cache: to look into, and to fill: clips of no corpus make the corpus `given_media.CORPUS`.
        given: the clips.
        wanted: the streams, by their names.
        how: of this machine.

    Returns:
        Where the frames are, and what has failed.

    Raises:
        EmocacheError: an encoder that cannot be had, or has other weights than the recipe says; an option of the
            recipes that this machine lacks.
    """
    clips = {clip.id: clip for clip in given.utterances}
    places = Places()
    for name, sought in wanted.items():
        for id_, place in _found(cache, sought, clips).items():
            places.of[id_][name] = place
    left = [clip for clip in clips.values() if len(places.of[clip.id]) < len(wanted)]
    if not left:
        return places
    with TemporaryDirectory(prefix="emocache-predict-") as folder:
        for one in given.clips:
            for medium in one.windows[0][2].media:
                link = Path(folder, medium.path)
                if not link.is_symlink():
                    link.symlink_to(one.path.absolute())
        unresolved = _encode(cache, left, wanted, how, Path(folder))
    # With a manifest of its own: another process may have put one without these clips meanwhile.
    manifest = Manifest.from_utterances(CORPUS, left)
    streams = {info.fingerprint: cache.open_info(info, manifest) for info in cache.streams(CORPUS)}
    paths = {u.id: (u.media[0].path, clip.path.name) for clip in given.clips for _, _, u in clip.windows}
    for name, stream_ in wanted.items():
        stream = streams[stream_.fingerprint]
        for clip in left:
            if clip.id in stream:
                places.of[clip.id].setdefault(name, (stream, clip.id))
            elif name not in places.of[clip.id]:
                told = stream.failures.get(clip.id)
                why = ": ".join(told) if told else unresolved.get(clip.id, "it was not encoded")
                places.failures[clip.id][name] = why.replace(*paths[clip.id])
    return places


def _found(cache: Cache, wanted: WantedStream, clips: Mapping[str, Utterance]) -> dict[str, tuple[Stream, str]]:
    """Find clips that a corpus has in this very stream, whatever they are called there."""
    inputs = wanted.recipe["inputs"]
    ids = {replace(clip, id="").inputs_sha256(inputs): clip.id for clip in clips.values()}
    found: dict[str, tuple[Stream, str]] = {}
    for corpus in cache.corpora():
        for info in cache.streams(corpus):
            if info.fingerprint != wanted.fingerprint:
                continue
            stream = cache.open_info(info)
            for utterance in stream.manifest:
                clip = ids.get(replace(utterance, id="").inputs_sha256(inputs))
                if clip is not None and clip not in found and utterance.id in stream:
                    found[clip] = (stream, utterance.id)
    return found


def _encode(
    cache: Cache, clips: Sequence[Utterance], wanted: Mapping[str, WantedStream], how: How, folder: Path
) -> dict[str, str]:
    """Run the extraction; returns {id: cause} of what lies outside the input."""
    manifest = Manifest.from_utterances(CORPUS, clips)
    groups: dict[str, list[str]] = defaultdict(list)
    for name, one in wanted.items():
        groups[one.recipe["dtype"]].append(name)
    unresolved: dict[str, str] = {}
    for dtype, names in groups.items():
        options = Options(
            CORPUS, folder, str(cache.objects.url), (), checkpoints=how.checkpoints, dtype=dtype, device=how.device,
            workers=how.workers, offline=how.offline, manifest=manifest, only=frozenset(clip.id for clip in clips),
            expected={_base(name): _expected(wanted[name]) for name in names}, retry_failed=True,
        )  # fmt: skip
        for report in reach_goals(options, [_goal(name, wanted[name], how) for name in names]):
            for encoder, why in report.unmade.items():
                raise EmocacheError(f"{encoder}: {why}")
            for note in report.notes:
                print(note, file=sys.stderr)
            unresolved |= report.outcome.unresolved
    cache.add_to_manifest(manifest)  # the clips of another process stay, and so do these
    for name, one in wanted.items():
        if "projection" in one.recipe:
            if one.matrix is None:
                raise EmocacheError(f"the matrix of stream {name!r} is not among the sources of these runs; give a"
                                    " cache that has the clips in this stream with --cache")  # fmt: skip
            source = f"{_base(name)}@{one.recipe['source']}"
            project_with(cache, CORPUS, source, name, dict(one.recipe), one.matrix)
    return unresolved


def _base(name: str) -> str:
    """The name of the stream that is encoded, without its projection."""
    return re.sub(r"\.pca\d+$", "", name.partition("@")[0])


def _expected(wanted: WantedStream) -> Expected:
    return Expected(wanted.recipe.get("source", wanted.fingerprint), wanted.recipe)


def _goal(name: str, wanted: WantedStream, how: How) -> Goal:
    recipe = wanted.recipe
    decoding: Mapping[str, Any] = recipe.get("decoding", {})
    detector = decoding.get("detector", {}).get("name", "dlib")
    if detector not in ("dlib", "centerface") and how.detector is None:
        raise EmocacheError(f"stream {name!r} finds faces by {detector}; give its model with --detector FILE")
    words = recipe.get("words_from", {}).get("encoder")
    making = Making(
        fps=decoding.get("fps"),
        detector=detector if detector in ("dlib", "centerface") else str(how.detector),
        precision=recipe.get("precision", "float32"),
        detect_every=decoding.get("faces", {}).get("detect_every", 1),
        words_from=None if words == recipe.get("text_from", {}).get("encoder") else words,
    )
    goal = Goal(_base(name), making)
    weights = wanted.weights or ""
    repository = re.fullmatch(r"[\w.-]+/[\w.-]+(@\S+)?", weights)
    return replace(goal, origins={goal.parts.encoder: weights}) if repository else goal
