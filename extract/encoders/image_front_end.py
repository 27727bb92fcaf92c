"""The pixels that a checkpoint wants, as made by the image processor that transformers finds in its folder.

It is always the one that works with Pillow, so that what else is installed (torchvision) changes no number.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers import AutoImageProcessor

from ...cache import EmocacheError
from ..media.detectors import Picture
from .checkpoints import Checkpoint, first_line, read_json, refuse_own_code
from .inference import quiet

Pixels = npt.NDArray[np.float32]

_ALONE, _NESTED = "preprocessor_config.json", "processor_config.json"
_REMEDY = "copy the one of the model that the checkpoint was made from"
# Classes with no steps of their own: `_STEPS` is all that they do to a picture.
_KINDS = ("BitImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor", "ViTImageProcessor")
_STEPS = {
    "do_resize": ("size", "resample"), "do_center_crop": ("crop_size",), "do_rescale": ("rescale_factor",),
    "do_normalize": ("image_mean", "image_std"), "do_pad": ("pad_size",),
}  # fmt: skip
_PROBES = ((48, 64, 3), (64, 48, 3))  # one wide, one high


class ImageFrontEnd:
    """Turns a picture into a model's pixels.

    Attributes:
        settings: what is done to a picture, for the recipe.
        height: of the result. width: of the result.

    Args:
        checkpoint: of a model of pictures.

    Raises:
        EmocacheError: the checkpoint has no image processor, or one that is not run here.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._processor = _image_processor(checkpoint)
        self.settings = _settings(self._processor)
        try:
            shapes = {self(np.zeros(shape, np.uint8)).shape for shape in _PROBES}
        except Exception as error:  # settings are tried first when a picture is there; errors share no base class
            raise EmocacheError(
                f"{checkpoint.folder}: its image processor cannot be run: {first_line(error)}; {_REMEDY}"
            ) from error
        # Pictures of one batch need one shape, whatever the video's.
        if len(shapes) > 1:
            raise EmocacheError(
                f"{checkpoint.folder}: its image processor makes pictures of different shapes, such as"
                f" {' and '.join(map(str, sorted(shapes)))}; expected one, by a size or a crop; {_REMEDY}"
            )
        _, self.height, self.width = shapes.pop()

    def __call__(self, picture: Picture) -> Pixels:
        """Turn (H, W, 3) uint8 RGB into (3, height, width)."""
        # A Pillow image says which axis is which; in an array of 3 x 3 pixels that would be a guess.
        made = self._processor(images=[Image.fromarray(picture)], return_tensors="np")
        return np.asarray(made["pixel_values"][0], np.float32)


def _image_processor(checkpoint: Checkpoint) -> Any:
    """Make the image processor, which must be one of `_KINDS`."""
    folder = checkpoint.folder
    # As transformers looks for it: a processor's file with an image processor in it comes first.
    nested, alone = read_json(folder / _NESTED) or {}, read_json(folder / _ALONE)
    told = nested.get("image_processor", alone)
    if not told or not isinstance(told, dict):  # of an empty one transformers would make its own defaults
        raise EmocacheError(
            f"{folder}: neither {_NESTED} nor {_ALONE} says what pictures the model takes (size, mean and deviation of"
            f" colours); {_REMEDY}"
        )
    for part in ("AutoImageProcessor", "AutoFeatureExtractor"):
        refuse_own_code(folder, told, part)
    # Files from before there were image processors name a feature extractor, which goes by the new name now.
    older = str(told.get("feature_extractor_type") or "").replace("FeatureExtractor", "ImageProcessor")
    if named := str(told.get("image_processor_type") or older).removesuffix("Fast"):
        _check_kind(checkpoint, named)
    try:
        with quiet():
            found: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
    except Exception as error:  # of missing keys, wrong types and unknown classes; they share no base class
        raise EmocacheError(
            f"{folder}: transformers cannot make the image processor that {_NESTED} or {_ALONE} tells of:"
            f" {first_line(error)}; {_REMEDY}"
        ) from error
    _check_kind(checkpoint, type(found).__name__.removesuffix("Pil"))
    return found


def _check_kind(checkpoint: Checkpoint, kind: str) -> None:
    if kind not in _KINDS:
        raise EmocacheError(
            f"{checkpoint.folder}: its image processor is a {kind}; a {checkpoint.model_type} model is run with"
            f" {', '.join(_KINDS)} only; {_REMEDY}"
        )


def _settings(processor: Any) -> dict[str, Any]:
    """List the settings of the steps that are done; those of others say nothing about the numbers."""
    told = processor.to_dict()
    found = {key: told.get(key) for step, keys in _STEPS.items() if told.get(step) for key in keys}
    if isinstance(found.get("resample"), int):
        found["resample"] = Image.Resampling(found["resample"]).name.lower()
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
    return {"processor": type(processor).__name__.removesuffix("Pil"), **plain}
