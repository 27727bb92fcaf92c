"""A stored head as ONNX: from the frames of one clip to its prediction, with all transforms in the graph."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import EmocacheError
from ...cache.frames.projection import Projection
from ..heads.head import POOLED_PARTS, FixedPooling, Frames, as_outputs
from .onnx_recurrence import with_whole_recurrences
from .stored_models import Part, StoredModel

_CLOSE = 1e-4
_LENGTHS = (31, 57)  # frames of the clips that the graph is compared on
_OPSET = 20


class Graph(torch.nn.Module):
    """Everything between the frames of an encoder and a prediction, for one clip.

    Args:
        part: of a run, see `why_not`.
        width: channels of the frames.
        projection: stored with the stream; None without one.
        half: frames are stored as float16.
    """

    def __init__(self, part: Part, width: int, projection: Projection | None, half: bool) -> None:
        super().__init__()
        (role,) = part.settings.streams
        self.part, self.as_half = part, half
        self.averaged = part.settings.features.of(role).average_frames
        self.pooling = part.settings.head.fixed_pooling(role, part.settings.per_frame)
        stored = {name.removeprefix(f"{role}."): value for name, value in part.transforms.items()}
        first = {} if projection is None else {"first.mean": projection.mean, "first.components": projection.components}
        self.names = {*stored, *first}
        for name, value in (stored | first).items():
            self.register_buffer(name.replace(".", "_"), torch.from_numpy(np.array(value)))
        if projection is not None:
            width = len(projection.components)
        if "pca.components" in stored:
            width = len(stored["pca.components"])
        self.head = part.build({role: width * (1 if self.pooling is None else POOLED_PARTS[self.pooling])})
        self.head.eval()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(T, D) float32 to (K,) probabilities or values, or (T, K) values over time."""
        values = self._projected(frames, "first")
        values = self._rounded(values)
        if self.averaged > 1:
            values = self._rounded(_block_means(values, self.averaged))
        values = self._projected(values, "pca")
        if self.pooling is not None:
            values = _pooled(values.double(), self.pooling).float().unsqueeze(0)
        if "normalise.mean" in self.names:
            values = (values - self._stored("normalise.mean")) / self._stored("normalise.std")
        mask = torch.ones_like(values[:, 0], dtype=torch.bool)
        output = as_outputs(self.head(Frames(values.unsqueeze(0), mask.unsqueeze(0)))).prediction[0]
        if self.part.settings.task in ("classification", "distribution"):
            return torch.softmax(output, dim=-1)
        return output if self.part.scale is None else self._native(output)

    def _rounded(self, values: torch.Tensor) -> torch.Tensor:
        """The numbers as a stream stores them."""
        return values.half().float() if self.as_half else values

    def _projected(self, values: torch.Tensor, name: str) -> torch.Tensor:
        if f"{name}.components" not in self.names:
            return values
        return ((values.double() - self._stored(f"{name}.mean")) @ self._stored(f"{name}.components").T).float()

    def _native(self, output: torch.Tensor) -> torch.Tensor:
        return (output * self._stored("targets.std") + self._stored("targets.mean")).float()

    def _stored(self, name: str) -> torch.Tensor:
        return self.get_buffer(name.replace(".", "_"))


def _pooled(values: torch.Tensor, pooling: FixedPooling) -> torch.Tensor:
    """Pool (T, D) to one vector, as `inputs.vectors.pool` does."""
    moments = [values.mean(dim=0), values.std(dim=0, correction=0)][: POOLED_PARTS[pooling]]
    if pooling == "mean_std_delta":
        # The frame after each, and zeros after the last, which has no step: slices of T - 1 frames torch exports for
        # three frames and more only.
        after, follows = (torch.nn.functional.pad(one, (0, 0, 0, 1))[1:] for one in (values, torch.ones_like(values)))
        count = follows.sum(dim=0).clamp(min=1)
        steps = (after - values) * follows
        mean = steps.sum(dim=0) / count
        moments += [mean, torch.sqrt(((steps - mean) ** 2 * follows).sum(dim=0) / count)]
    return torch.cat(moments)


def _block_means(values: torch.Tensor, count: int) -> torch.Tensor:
    """Average blocks of `count` frames of (T, D), and at the end those that are left, as `joining.average` does."""
    channels = values.shape[1]
    beside = torch.cat([values, torch.ones_like(values[:, :1])], dim=1)
    # Pooling with zeros behind the end, so that no shape has to be divided: torch exports that for any length.
    padded = torch.nn.functional.pad(beside.T.unsqueeze(0), (0, count - 1))
    sums = count * torch.nn.functional.avg_pool1d(padded, count).squeeze(0).T
    return sums[:, :channels] / sums[:, channels:]


def why_not(model: StoredModel) -> str:
    """Tell why a model cannot be one graph over the frames of one clip; "" if nothing is known that forbids it."""
    settings = model.parts[0].settings
    if len(model.parts) > 1 or len(settings.streams) > 1:
        return "it is several heads, or one that takes several inputs"
    ((role, names),) = settings.streams.items()
    how = settings.features.of(role)
    asked = {
        "several streams": len(names) > 1, "features.where": how.where is not None, "features.words": how.words,
        "features.crop_s": how.crop_s is not None, "features.max_frames": how.max_frames is not None,
        "features.grid_hz": how.grid_hz is not None,
        "features.trainable_words": how.trainable_words != "none",
        f"features.normalise = {how.normalise!r}": how.normalise not in ("none", "train"),
        "pieces": settings.head.segments() is not None, "masking = 'none'": settings.masking == "none",
    }  # fmt: skip
    return ", ".join(f"{name} is not in the graph" for name, there in asked.items() if there)


def export_onnx(model: StoredModel, recipe: Mapping[str, Any], matrix: bytes | None, path: Path) -> None:
    """Write a head as ONNX, once onnxruntime gives what torch gives.

    Args:
        model: a run.
        recipe: of its stream.
        matrix: of the stream's projection; None without one.
        path: to write to.

    Raises:
        EmocacheError: it cannot be exported, and why; or the libraries for it are not installed.
    """
    if why := why_not(model):
        raise EmocacheError(why)
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise EmocacheError(f"it needs {error.name}; install it with: pip install 'emocache[onnx]'") from error
    projection = None if matrix is None else Projection.from_bytes(matrix)
    width = recipe["dim"] if projection is None else projection.components.shape[1]
    graph, exported = (Graph(model.parts[0], width, projection, recipe["dtype"] == "float16").eval() for _ in range(2))
    if graph.head.teacher != "never":
        raise EmocacheError("its decoder is fed what it gave the frame before, which no graph does for any length")
    with_whole_recurrences(exported)
    random = np.random.default_rng(0)
    clips = [random.normal(size=(length, width)).astype(np.float32) for length in _LENGTHS]
    example = (torch.from_numpy(clips[0]),)
    shapes = ({0: torch.export.Dim("frames", min=2, max=1_000_000)},)
    try:
        program = _quietly(lambda: torch.export.export(exported, example, dynamic_shapes=shapes, strict=False))
        written = _quietly(lambda: torch.onnx.export(program, dynamo=True, verbose=False, input_names=["frames"],
                                                     output_names=["prediction"], opset_version=_OPSET,
                                                     external_data=False))  # fmt: skip
    except Exception as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EmocacheError(f"torch cannot export this head for clips of any length ({why.strip()[:200]})") from error
    written.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for clip in clips:
        (found,) = session.run(None, {"frames": clip})
        with torch.no_grad():
            wanted = graph(torch.from_numpy(clip)).numpy()
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=0, atol=_CLOSE):
            path.unlink()
            raise EmocacheError("onnxruntime does not give what torch gives")


def _quietly(call: Callable[[], Any]) -> Any:
    """Call what prints its progress and warnings of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            return call()
    finally:
        logger.setLevel(level)
