"""The contract between the pipeline and every encoder, and the helpers that most encoders share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError, InputFailure, Item, Utterance, Word
from ...cache.recipe import Recipe
from ...cache.spill import blocks
from ..media.decoders import MAX_SECONDS

if TYPE_CHECKING:
    from ..media.crops import Cut
    from ..media.faces import FaceVideo
    from ..media.video import Frame

SAMPLE_RATE = 16_000
"""Hz; what every encoder of audio expects."""

_UNKNOWN_SECONDS = 5.0

Audio = npt.NDArray[np.float32]
Layers = Sequence[int | None]
LayerItems = Mapping[int | None, Item | Mapping[str, Any]]
"""{layer: Item}, or {None: JSON object} of an encoder whose recipe is of kind "table"."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One utterance as an encoder gets it.

    Attributes:
        id: the utterance's id, for log lines only.
        audio: (n,) float32, 16 kHz, mono; None where the encoder does not ask for it.
        text: what is said; None where unknown.
        words: the words with their time spans; empty where unknown.
        video: the frames and the face in each; None where the encoder does not ask for it.
        pictures: decodes the frames, faces or none, each time it is called; raises the InputFailure of a video that
            cannot be decoded. None where the encoder does not ask for them.
        faults: {input: what is wrong with it}; an encoder never sees a clip with a fault in one of its inputs.
    """

    id: str
    audio: Audio | None = None
    text: str | None = None
    words: tuple[Word, ...] = ()
    video: "FaceVideo | None" = None
    pictures: "Callable[[], Iterator[Frame]] | None" = None
    faults: Mapping[str, InputFailure] = field(default_factory=dict)


class Encoder(Protocol):
    """A frozen model or signal transform.

    Attributes:
        name: as in stream names.
        inputs: the parts of a clip that it reads: ("audio",), ("video",), ("pictures",), ("text",), ("text", "words").
            Its recipe names the same as what its numbers depend on, but for "pictures", which come of the "video".
        layers: number of transformer layers; 0 for signal transforms.
        dim: D, values per frame.
        rate: frames a second in Hz; None where frames do not follow time.
    """

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def layers(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def rate(self) -> float | None: ...

    def recipe(self, layer: int | None) -> Recipe:
        """Tell all that determines the numbers of one layer, but for the storage dtype.

        Args:
            layer: 0 to `layers`; None for the last.

        Returns:
            A JSON object. Encoders with equal recipes give equal numbers.

        Raises:
            EmocacheError: there is no such layer.
        """

    def expected_frames(self, utterance: Utterance) -> int:
        """Estimate the frames of an utterance, as far as the manifest tells; for planning only."""

    def cost(self, utterance: Utterance) -> float:
        """Estimate the work of an utterance, in seconds of audio at 50 frames a second; sizes units and batches."""

    def encode(self, clips: Sequence[Clip], layers: Layers) -> list[LayerItems | InputFailure]:
        """Encode one batch; each clip's result is what it would be alone.

        On a GPU two threads may call it at once; `Runtime.exact` and `Runtime.model` let one in at a time.

        Args:
            clips: any number; those with a fault in their input do not disturb the others.
            layers: the layers wanted, None for the last; all come out of one pass.

        Returns:
            For each clip, in order, {layer: Item} with float32 frames, or the InputFailure that explains why not.

        Raises:
            torch.cuda.OutOfMemoryError: the batch does not fit the device.
        """


def storage_dtype(encoder: Encoder) -> str:
    """Return the type that an encoder's numbers are stored in by default: float16, unless it has its own."""
    return str(getattr(encoder, "storage", "float16"))


def face_cuts(encoders: Iterable[Encoder]) -> "list[Cut]":
    """Return what encoders of faces do to a picture before their network does: `cut`, each once."""
    faces = (encoder for encoder in encoders if "video" in encoder.inputs)
    return list(dict.fromkeys(cut for cut in (getattr(encoder, "cut", None) for encoder in faces) if cut is not None))


def seconds(utterance: Utterance) -> float:
    """Estimate the length of an utterance in seconds, with a guess where the manifest does not tell.

    More than the decoder would take counts as that, so that one slip in a table does not make the whole corpus look
    too large for the disk.
    """
    end = utterance.duration if utterance.end is None else utterance.end
    return _UNKNOWN_SECONDS if end is None else min(max(end - (utterance.start or 0.0), 0.0), MAX_SECONDS)


def samples(utterance: Utterance) -> int:
    """Estimate the length of an utterance in samples at 16 kHz, at least 1; see `seconds`."""
    return max(1, round(seconds(utterance) * SAMPLE_RATE))


def check_layer(encoder: str, layer: int | None, layers: int) -> int | None:
    """Check that an encoder has a layer, and call the last one None.

    Layer i is the output of the i-th transformer layer, layer 0 what goes into the first one.

    Args:
        encoder: its name, for the message.
        layer: the layer asked for; None for the last.
        layers: number of transformer layers; 0 for an encoder without.

    Returns:
        The layer; None for the last.

    Raises:
        EmocacheError: there is no such layer.
    """
    # The last layer goes by None alone, so that it has one recipe, and one stream, however it was asked for.
    if layer is None or (layer == layers and layers):
        return None
    if not layers:
        raise EmocacheError(f"encoder {encoder!r} has no layers, but layer {layer} was asked for; leave --layers out")
    if not 0 <= layer < layers:
        raise EmocacheError(f"encoder {encoder!r} has layers 0 to {layers}; there is no layer {layer}")
    return layer


def encode_audio(
    clips: Sequence[Clip], run: Callable[[list[Audio]], list[Mapping[int | None, npt.NDArray[np.float32]]]]
) -> list[LayerItems | InputFailure]:
    """Encode the clips whose audio is sound in one call of `run`, and say what is wrong with the others.

    Args:
        clips: the batch.
        run: takes the sound clips' samples and gives {layer: (T, D) float32} for each.

    Returns:
        For each clip, in order, {layer: Item}, or the InputFailure that says what is wrong with its audio.
    """
    results: list[LayerItems | InputFailure | None] = [audio_fault(clip.audio) for clip in clips]
    sound = [i for i, fault in enumerate(results) if fault is None]
    audios = [np.ascontiguousarray(clips[i].audio, np.float32) for i in sound]
    for i, frames in zip(sound, run(audios) if audios else [], strict=True):
        results[i] = {layer: Item(array) for layer, array in frames.items()}
    return [result for result in results if result is not None]


def encode_each(
    encoder: Encoder, clips: Sequence[Clip], layers: Layers, transform: Callable[[Audio], npt.NDArray[np.float32]]
) -> list[LayerItems | InputFailure]:
    """Encode one clip after the other, for encoders of audio without layers.

    Args:
        encoder: asked for nothing but its name and layers.
        clips: the batch.
        layers: as `Encoder.encode` takes them, but None alone, since there are no others.
        transform: (n,) samples to (T, D) float32.

    Returns:
        For each clip, in order, {None: Item}, or the InputFailure that says what is wrong with its audio.
    """
    for layer in layers:
        check_layer(encoder.name, layer, encoder.layers)
    return encode_audio(clips, lambda audios: [{None: transform(audio)} for audio in audios])


def over_whole_clips(
    results: Sequence[LayerItems | InputFailure], clips: Sequence[Clip]
) -> list[LayerItems | InputFailure]:
    """Give the vector of each whole clip explicit times: from 0 to the clip's length in seconds."""
    timed: list[LayerItems | InputFailure] = []
    for result, clip in zip(results, clips, strict=True):
        if not isinstance(result, InputFailure) and clip.audio is not None:
            times = np.array([[0.0, len(clip.audio) / SAMPLE_RATE]])
            result = {layer: Item(item.frames, times) for layer, item in result.items() if isinstance(item, Item)}
        timed.append(result)
    return timed


def audio_fault(audio: Audio | None) -> InputFailure | None:
    """Tell what is wrong with a clip's samples; None where nothing is."""
    if audio is None:
        return InputFailure("no_audio", "the utterance has no audio")
    if audio.ndim != 1:
        raise ValueError(f"audio of shape {audio.shape}; expected (n,), mono")
    if not audio.size:
        return InputFailure("empty", "0 samples")
    bad = sum(int((~np.isfinite(block)).sum()) for block in blocks(audio))
    if bad:
        return InputFailure("not_finite", f"{bad} of {audio.size} samples are NaN or infinite")
    return None
