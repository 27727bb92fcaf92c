"""Convolutional networks out of .onnx files, run by torch on any device."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...cache import EmocacheError

Step = Callable[[Sequence[Any], Mapping[str, Any]], Tensor]


def _convolution(inputs: Sequence[Any], given: Mapping[str, Any]) -> Tensor:
    values, weight, *bias = inputs
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    padding = (top, left)
    if (top, left) != (bottom, right):
        values, padding = F.pad(values, (left, right, top, bottom)), (0, 0)
    how: dict[str, Any] = {
        "padding": padding,
        "stride": given.get("strides", 1),
        "dilation": given.get("dilations", 1),
        "groups": given.get("group", 1),
    }
    return F.conv2d(values, weight, bias[0] if bias else None, **how)


def _transposed(inputs: Sequence[Any], given: Mapping[str, Any]) -> Tensor:
    values, weight, *bias = inputs
    how: dict[str, Any] = {"stride": given.get("strides", 1), "groups": given.get("group", 1)}
    return F.conv_transpose2d(values, weight, bias[0] if bias else None, **how)


def _normed(inputs: Sequence[Any], given: Mapping[str, Any]) -> Tensor:
    values, scale, bias, mean, variance = inputs
    return F.batch_norm(values, mean, variance, scale, bias, eps=given.get("epsilon", 1e-5))


_STEPS: dict[str, Step] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "BatchNormalization": _normed,
    "Relu": lambda inputs, given: F.relu(inputs[0]),
    "Sigmoid": lambda inputs, given: torch.sigmoid(inputs[0]),
    "Add": lambda inputs, given: inputs[0] + inputs[1],
}


class SmallGraph:
    """A network of a few kinds of steps: convolutions, sums, norms, ReLU and sigmoid.

    Args:
        file: .onnx.
        device: where it runs.

    Raises:
        EmocacheError: onnx is not installed, the file cannot be read, or has a step of another kind.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        try:
            import onnx
        except ImportError as error:
            raise EmocacheError(f"reading {file.name} needs onnx ({error}): pip install 'emocache[onnx]'") from error
        try:
            graph = onnx.load(str(file)).graph
        except Exception as error:  # of protobuf and of onnx; they share no base class
            raise EmocacheError(f"{file} is no .onnx file that onnx can read: {error}") from error
        others = {node.op_type for node in graph.node} - _STEPS.keys()
        if others:
            raise EmocacheError(
                f"{file}: a step {min(others)} is not among those run here: {', '.join(sorted(_STEPS))}"
            )
        value = onnx.helper.get_attribute_value
        self._steps = [
            (_STEPS[node.op_type], list(node.input), node.output[0], {one.name: value(one) for one in node.attribute})
            for node in graph.node
        ]
        self._weights = {
            one.name: torch.from_numpy(onnx.numpy_helper.to_array(one).copy()).to(device) for one in graph.initializer
        }
        (self._input,) = (one.name for one in graph.input if one.name not in self._weights)
        self._outputs = [one.name for one in graph.output]

    def __call__(self, values: Tensor) -> list[Tensor]:
        """Run it: (B, 3, H, W) to its outputs, in the order of the file."""
        known = {**self._weights, self._input: values}
        # A step's result goes when the last step that needs it has run, or all of them would be in memory at once.
        last = {name: number for number, (_, inputs, _, _) in enumerate(self._steps) for name in inputs}
        for number, (step, inputs, output, given) in enumerate(self._steps):
            known[output] = step([known[name] for name in inputs], given)
            for name in inputs:
                if last[name] == number and name not in self._outputs:
                    known.pop(name, None)
        return [known[name] for name in self._outputs]
