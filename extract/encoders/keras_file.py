"""The convolutions of a network out of an HDF5 file that Keras wrote, read with h5py alone."""

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ...cache import EmocacheError
from .checkpoints import first_line

Shape = tuple[int, ...]
Weights = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Kernel (height, width, in, out) and bias (out,)."""

_MOST_NAMES = 4096
_DEEPEST = 8  # groups inside groups; Keras writes four


def read_convolutions(file: Path, expected: Mapping[str, Shape]) -> dict[str, Weights]:
    """Read the kernels and biases of a network's convolutions, whatever version of Keras wrote them.

    Layers are found by name where the file knows any of the names, else by order: the first convolution of the file is
    the first one expected, and so on. More layers than expected are ignored. Only shapes that were expected are read;
    nothing outside the file is, though HDF5 could link to it.

    Args:
        file: written by Keras' `save_weights` or `save`: layers in the order of the attribute `layer_names`, each one's
            arrays in that of `weight_names`, or, without these attributes, in the natural order of their names.
        expected: {layer name: (height, width, in, out) of its kernel}, in the order of the network.

    Returns:
        {layer name: float32 kernel and bias}, finite.

    Raises:
        EmocacheError: not such a file, or the layer that is missing or has another shape.
    """
    if not file.is_file():
        raise EmocacheError(f"{file}: there is no such file; expected Keras weights in HDF5 (.h5)")
    try:
        with h5py.File(file, "r") as opened:
            return dict(_convolutions(opened, expected))
    except EmocacheError as error:
        raise EmocacheError(f"{file}: {error}") from error
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:  # h5py's for damaged files
        raise EmocacheError(
            f"{file}: cannot be read as HDF5: {first_line(error)}; expected Keras weights (.h5)"
        ) from error


def _convolutions(root: Any, expected: Mapping[str, Shape]) -> Iterator[tuple[str, Weights]]:
    layers = {name: arrays for name, arrays in _layers(root).items() if arrays}
    if not layers:
        raise EmocacheError("the file holds no layer with weights; expected what Keras' save_weights writes")
    # One name known is enough to go by names: by order, a file that lacks a layer would shift all the others.
    named = any(name in layers for name in expected)
    convolutions = [name for name, arrays in layers.items() if any(len(array.shape or ()) == 4 for array in arrays)]
    for i, (name, kernel) in enumerate(expected.items()):
        source = name if named else next(iter(convolutions[i : i + 1]), None)
        wanted = [kernel, kernel[-1:]]  # one bias an output channel
        if source not in layers:
            known = f"; there are {', '.join(convolutions) or 'none'}" if named else f": there are {len(convolutions)}"
            raise EmocacheError(
                f"layer {name}, convolution {i + 1} of {len(expected)}, is missing{known}; expected a kernel of"
                f" {wanted[0]} and a bias of {wanted[1]}"
            )
        # Shapes stand in the header: nothing is read, or decompressed, that is not of the size expected.
        found = [array.shape for array in layers[source]]
        if found != wanted:
            where = f"layer {name}" + (f" (by order, here {source!r})" if source != name else "")
            raise EmocacheError(
                f"{where} has arrays of {' and '.join(map(str, found))}; expected a kernel of {wanted[0]} and a bias of"
                f" {wanted[1]}"
            )
        weight, bias = (_read(array) for array in layers[source])
        yield name, (weight, bias)


def _layers(root: Any) -> dict[str, list[Any]]:
    """Find {layer name: its datasets}; nothing is read yet."""
    # `save` and newer versions of Keras put the layers one group deeper than `save_weights` did.
    inner = next((name for name in ("model_weights", "layers") if name in _children(root)), None)
    group = root if inner is None else _descend(root, inner)
    names = _names(group, "layer_names")
    if names is None:
        names = [name for name in _children(group) if isinstance(_descend(group, name), h5py.Group)]
    layers = {}
    for name in names:
        layer = _descend(group, name)
        if not isinstance(layer, h5py.Group):
            raise EmocacheError(f"{name!r} is an array; expected a layer's group")
        weights = _names(layer, "weight_names")
        layers[name] = list(_walk(layer)) if weights is None else [_descend(layer, weight) for weight in weights]
        if not all(isinstance(array, h5py.Dataset) for array in layers[name]):
            raise EmocacheError(f"layer {name} names something that is not an array as one of its weights")
    return layers


def _children(group: Any) -> list[str]:
    """List the names in natural order: conv2d_2 before conv2d_10."""
    return sorted(
        group, key=lambda name: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
    )


def _walk(group: Any, depth: int = 0) -> Iterator[Any]:
    if depth > _DEEPEST:
        raise EmocacheError(f"more than {_DEEPEST} groups inside each other; expected Keras weights")
    for name in _children(group):
        child = _descend(group, name)
        if isinstance(child, h5py.Group):
            yield from _walk(child, depth + 1)
        else:
            yield child


def _descend(group: Any, path: str) -> Any:
    """Follow a path to a group or dataset, every step of which must lie in this file."""
    # Links are looked at before they are opened: to open one is to follow it, out of the file perhaps.
    for step in filter(None, path.split("/")):
        if not isinstance(group, h5py.Group) or not group.id.links.exists(step.encode()):
            raise EmocacheError(f"{path!r} is missing, though the file names it; download the file again")
        if group.id.links.get_info(step.encode()).type != h5py.h5l.TYPE_HARD:
            raise EmocacheError(f"{path!r} is a link, perhaps to another file; links are not followed")
        group = group[step]
    return group


def _names(group: Any, attribute: str) -> list[str] | None:
    if attribute not in group.attrs:
        return None
    # The size is looked at before the values: a damaged file may claim any number of them.
    stored = group.attrs.get_id(attribute)
    count = prod(stored.shape or (0,))
    if count == 0:
        return []
    if h5py.check_string_dtype(stored.dtype) is None or count > _MOST_NAMES:
        raise EmocacheError(f"{attribute} holds {count} of {stored.dtype}; expected at most {_MOST_NAMES} names")
    return [name.decode() if isinstance(name, bytes) else name for name in np.ravel(group.attrs[attribute])]


def _read(array: Any) -> npt.NDArray[np.float32]:
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise EmocacheError(f"{array.name} holds {array.dtype}; expected floating point")
    if array.external or array.is_virtual:
        raise EmocacheError(f"{array.name} keeps its values in another file; this is not followed")
    # A chunk is decompressed whole, however few of its values are inside the array.
    if array.chunks is not None and prod(array.chunks) > array.size:
        raise EmocacheError(f"{array.name} is stored in chunks of {array.chunks}, larger than itself, {array.shape}")
    # float64 beyond float32 becomes infinity without a warning: the check below tells it.
    with np.errstate(over="ignore"):
        values = np.asarray(array[()], np.float32)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise EmocacheError(f"{array.name}: {bad} of {values.size} values are NaN or infinite; download the file again")
    return values
