"""Utterances decoded as encoders need them: the samples, and the face in every picture."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import Cache, InputFailure, Stream, Utterance
from ..encoders.encoder import Clip
from ..encoders.face_boxes import NAME
from ..media.audio import AUDIO_RECIPE, decode_audio
from ..media.crops import Cut, Room
from ..media.detectors import FaceDetector
from ..media.faces import FaceVideo, revisit_faces, track_faces
from ..media.tracks import policy
from ..media.video import Frame, decode_video, video_recipe
from .sources import Sources


@dataclass(frozen=True)
class Decoder:
    """Decodes utterances; safe to call from several threads.

    Attributes:
        data: the corpus folder.
        inputs: what is to be decoded: "audio", "video" (with the face in every frame), "pictures" (the frames alone);
            texts and words are always there.
        detector: finds faces; needed for "video" only.
        fps: pictures a second at most; None for all there are.
        sources: where texts and words come from, and fail.
        cuts: of the encoders of faces: what they do to every picture, done here.
        room: for what comes of that.
        detect_every: N, to look for faces in every N-th picture only.
        known: where faces are known already, see `known_faces`.
    """

    data: Path
    inputs: frozenset[str]
    detector: FaceDetector | None = None
    fps: float | None = None
    sources: Sources = field(default_factory=Sources)
    cuts: Sequence[Cut] = ()
    room: Room | None = None
    detect_every: int = 1
    known: Stream | None = None

    def __call__(self, utterance: Utterance) -> Clip:
        """Decode an utterance.

        Args:
            utterance: of the manifest.

        Returns:
            The samples, pictures and texts that encoders get; what is wrong with an input stands in its faults.

        Raises:
            EmocacheError: a library is not installed.
            OSError, MemoryError: of the machine.
        """
        faults = self.sources.faults(utterance.id)
        audio = video = pictures = None
        try:
            audio = self._hear(utterance) if "audio" in self.inputs else None
        except InputFailure as failure:
            faults["audio"] = failure
        try:
            video = self._see(utterance) if "video" in self.inputs else None
        except InputFailure as failure:
            faults["video"] = failure
        try:
            pictures = self._film(utterance) if "pictures" in self.inputs else None
        except InputFailure as failure:
            faults["pictures"] = failure
        return Clip(utterance.id, audio, utterance.text, utterance.words, video, pictures, faults)

    def recipe(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what decoding and sources contribute to an encoder with these inputs: a part of its recipe."""
        decoding: dict[str, Any] = {}
        if "audio" in inputs:
            decoding |= AUDIO_RECIPE
        if "video" in inputs and self.detector is not None:
            decoding |= {
                **video_recipe(self.fps),
                "detector": self.detector.recipe(),
                "faces": policy(self.detect_every),
            }
        if "pictures" in inputs:
            decoding |= video_recipe(self.fps)
        return {**({"decoding": decoding} if decoding else {}), **self.sources.recipe(inputs)}

    def _hear(self, utterance: Utterance) -> Any:
        media = utterance.media_of("audio")
        if media is None:
            raise InputFailure("no_audio", "the corpus has no audio of the utterance")
        return decode_audio(self.data / media.path, *utterance.span_of("audio"))

    def _see(self, utterance: Utterance) -> FaceVideo:
        film = self._film(utterance)
        if self.detector is None:
            raise ValueError("video needs a face detector")
        if self.known is None or (boxes := _recall(self.known, utterance.id)) is None:
            return track_faces(film, self.detector, self.cuts, self.room, self.detect_every)
        return revisit_faces(film, *boxes, self.cuts, self.room)

    def _film(self, utterance: Utterance) -> Callable[[], Iterator[Frame]]:
        media = utterance.media_of("video")
        if media is None:
            raise InputFailure("no_video", "the corpus has no video of the utterance")
        start, end = utterance.span_of("video")
        return partial(decode_video, self.data / media.path, start, end, region=media.region, fps=self.fps)


def known_faces(cache: Cache, corpus: str, decoder: Decoder) -> Stream | None:
    """Find the stream of boxes that were found as this decoder would find them.

    Args:
        cache: the cache.
        corpus: its corpus.
        decoder: that looks for faces.

    Returns:
        A stream of `face-boxes` of the same decoding, detector and rule, in full; None where there is none.
    """
    if decoder.detector is None:
        return None
    wanted = decoder.recipe(("video",))["decoding"]
    for info in cache.streams(corpus):
        recipe = info.recipe
        whole = recipe["encoder"] == NAME and recipe.get("dtype") == "float32" and "projection" not in recipe
        if whole and recipe.get("decoding") == wanted:
            return cache.open_info(info)
    return None


_READING = threading.Lock()


def _recall(known: Stream, utterance: str) -> tuple[Any, Any, Any] | None:
    """Read the times, boxes and marks of an utterance's pictures; None where they are not known."""
    with _READING:
        reason, detail = known.failures.get(utterance, ("", ""))
        if reason == "no_face":
            raise InputFailure(reason, detail)
        if utterance not in known:
            return None
        boxes = np.array(known.read(utterance))
        return known.times(utterance), boxes, known.aux(utterance)["face_found"]
