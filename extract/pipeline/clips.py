"""Utterances decoded as encoders need them: the samples, and the face in every picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...cache import InputFailure, Utterance
from ..encoders.encoder import Clip
from ..media.audio import AUDIO_RECIPE, decode_audio
from ..media.detectors import FaceDetector
from ..media.faces import POLICY, FaceVideo, track_faces
from ..media.video import decode_video, video_recipe
from .sources import Sources


@dataclass(frozen=True)
class Decoder:
    """Decodes utterances; safe to call from several threads.

    Attributes:
        data: the corpus folder.
        inputs: what is to be decoded: "audio", "video" or both; texts and words are always there.
        detector: finds faces; needed for "video".
        fps: pictures a second at most; None for all there are.
        sources: where texts and words come from, and fail.
    """

    data: Path
    inputs: frozenset[str]
    detector: FaceDetector | None = None
    fps: float | None = None
    sources: Sources = field(default_factory=Sources)

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
        audio = video = None
        try:
            audio = self._hear(utterance) if "audio" in self.inputs else None
        except InputFailure as failure:
            faults["audio"] = failure
        try:
            video = self._see(utterance) if "video" in self.inputs else None
        except InputFailure as failure:
            faults["video"] = failure
        return Clip(utterance.id, audio, utterance.text, utterance.words, video, faults)

    def recipe(self, inputs: Sequence[str]) -> dict[str, Any]:
        """Return what decoding and sources contribute to an encoder with these inputs: a part of its recipe."""
        decoding: dict[str, Any] = {}
        if "audio" in inputs:
            decoding |= AUDIO_RECIPE
        if "video" in inputs and self.detector is not None:
            decoding |= {**video_recipe(self.fps), "detector": self.detector.recipe(), "faces": POLICY}
        return {**({"decoding": decoding} if decoding else {}), **self.sources.recipe(inputs)}

    def _hear(self, utterance: Utterance) -> Any:
        media = utterance.media_of("audio")
        if media is None:
            raise InputFailure("no_audio", "the corpus has no audio of the utterance")
        return decode_audio(self.data / media.path, *utterance.span_of("audio"))

    def _see(self, utterance: Utterance) -> FaceVideo:
        media = utterance.media_of("video")
        if media is None:
            raise InputFailure("no_video", "the corpus has no video of the utterance")
        if self.detector is None:
            raise ValueError("video needs a face detector")
        start, end = utterance.span_of("video")
        path = self.data / media.path
        return track_faces(partial(decode_video, path, start, end, region=media.region, fps=self.fps), self.detector)
