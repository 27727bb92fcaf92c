"""Heads read back from run folders, and what they give for utterances."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.torch import load as load_tensors

from ...cache import EmocacheError
from ..config.search import chosen_settings
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..fit.fold_run import learned
from ..fit.predict import predict, softmax
from ..heads import Head, Shape, build_head
from ..inputs.batches import Batches
from ..inputs.prepared import Prepared
from ..inputs.targets import TargetScale, without_targets
from ..inputs.transforms import apply_fitted
from ..records.run_record import TRANSFORMS, WEIGHTS, RunRecord, SelectionRecord
from ..stored.run_folders import read_record, settings_of
from ..stored.run_sources import RunSources
from .answers import Answer, average, side_by_side

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Part:
    """One head of a run, with what was fitted for it; there are several where every target has its own, or a mean.

    Attributes:
        settings: those that were chosen. names: classes, or targets. weights, transforms: as they are stored.
        auxiliary: number of classes of the second target.
    """

    settings: Settings
    names: tuple[str, ...]
    weights: Mapping[str, torch.Tensor]
    transforms: Arrays
    auxiliary: int

    @property
    def scale(self) -> TargetScale | None:
        """The unit that the head gives numbers in; None where that is the corpus's."""
        if self.settings.targets_scale != "train":
            return None
        return TargetScale(self.transforms["targets.mean"], self.transforms["targets.std"])

    def batches(self, dataset: Dataset, prepared: Prepared, device: torch.device) -> Batches:
        """Return the batches of utterances without labels, padded as training padded where that counts."""
        padded = {name.removesuffix(".padded_to"): int(value[0])
                  for name, value in self.transforms.items() if name.endswith(".padded_to")}  # fmt: skip
        if self.settings.masking == "none" and not padded:
            raise EmocacheError("masking = 'none': what this head gives depends on the longest utterance of its corpus,"
                                " which runs did not record when it was trained; train it again")  # fmt: skip
        targets = without_targets(self.settings, prepared, self.scale)
        return Batches(dataset, self.settings, prepared, device, targets, padded)

    def head(self, batches: Batches, prepared: Prepared, device: torch.device) -> Head:
        """Return the head with its weights, for inputs of these sizes."""
        shape = Shape(batches.dims, len(self.names), self.settings.per_frame, self.auxiliary)
        head = build_head(self.settings.head, shape, learned(prepared, self.settings)).to(device)
        head.load_state_dict(dict(self.weights))
        return head

    def build(self, dims: Mapping[str, int]) -> Head:
        """Return the head with its weights, on the CPU, for inputs of these sizes at which nothing is learned."""
        head = build_head(self.settings.head, Shape(dims, len(self.names), self.settings.per_frame, self.auxiliary))
        head.load_state_dict(dict(self.weights))
        return head

    def answers(self, dataset: Dataset, device: torch.device) -> list[Answer | None]:
        """Return what the head gives for each utterance; None for one that lacks features."""
        rows = np.flatnonzero(dataset.present)
        found: list[Answer | None] = [None] * len(dataset.examples)
        if not len(rows):
            return found
        prepared = apply_fitted(dataset, self.settings, self.transforms)
        batches = self.batches(dataset, prepared, device)
        outputs = predict(self.head(batches, prepared, device), batches, rows).outputs
        first = next(iter(prepared.inputs.values())).features
        if self.settings.task in ("classification", "distribution"):
            outputs = list(softmax(np.reshape(outputs, (len(rows), len(self.names)))))
        for row, output in zip(rows, outputs, strict=True):
            times = first.times_of(row).mean(axis=1) if self.settings.per_frame else None
            if times is not None and not np.isfinite(times).all():
                raise EmocacheError(f"{dataset.examples[row].id}: frames without a place in time, as of special tokens")
            found[row] = Answer(self.names, output.astype(np.float64), times)
        return found


@dataclass(frozen=True, eq=False)
class StoredModel:
    """The head, or the heads, of one run.

    Attributes:
        folder: of the run. record: what its run.json says.
        heads: of each target that has heads of its own, or of all targets; several answer by their mean.
    """

    folder: Path
    record: RunRecord
    heads: tuple[tuple[Part, ...], ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every head, the best of the first target first."""
        return tuple(part for those in self.heads for part in those)

    def answers(self, read: Callable[[Settings], Dataset], device: torch.device) -> list[Answer | None]:
        """Return what the run gives for each utterance.

        Args:
            read: gives the utterances by `unlabelled.read_unlabelled`, for the settings of each head.
            device: computes.

        Returns:
            In the order of the utterances; None for one that lacks features.

        Raises:
            EmocacheError: features that the head was not made for, or frames without a place in time.
        """
        try:
            of_targets = []
            for parts in self.heads:
                found = [part.answers(read(part.settings), device) for part in parts]
                of_targets.append([average(those) for those in zip(*found, strict=True)])
            return [side_by_side(those) for those in zip(*of_targets, strict=True)]
        except (KeyError, ValueError, RuntimeError) as error:
            why = str(error).partition("\n")[0]
            raise EmocacheError(
                f"{self.folder}: its files do not fit together ({why}); train this run again"
            ) from error


def readable_record(folder: Path) -> RunRecord:
    """Read the record of a run that has a head.

    Args:
        folder: of the run.

    Returns:
        The record.

    Raises:
        EmocacheError: a damaged file, a fusion, or a head whose outputs are no predictions.
    """
    record = read_record(folder)
    if record.members:
        names = ", ".join(member["experiment"] for member in record.members)
        raise EmocacheError(f"{folder} is a fusion, which has no head of its own; predict with its members: {names}")
    if told := settings_of(record.config).head.diagnostic():
        raise EmocacheError(f"{folder}: {told}; it needs true values, which new clips do not have")
    return record


def open_model(folder: Path, record: RunRecord, sources: RunSources) -> StoredModel:
    """Read a run back.

    Args:
        folder: of the run.
        record: of the run, see `readable_record`.
        sources: of its setting.

    Returns:
        The model, ready for utterances.

    Raises:
        EmocacheError: a damaged file.
    """
    settings = settings_of(record.config)
    weights = load_tensors(_bytes(folder / WEIGHTS))
    transforms = load_arrays(_bytes(folder / TRANSFORMS))
    auxiliary = len(sources.auxiliary)
    if not record.selection.by_target:
        own_names = record.classes if record.task == "classification" and record.classes else record.targets
        whole = Part(settings, own_names, weights, transforms, auxiliary)
        return StoredModel(folder, record, (_chosen(whole, record.selection),))
    heads = []
    for target, selection in record.selection.by_target.items():
        own = settings.model_copy(update={"targets": (target,)})
        whole = Part(own, (target,), _below(weights, target), _below(transforms, target), auxiliary)
        heads.append(_chosen(whole, selection))
    return StoredModel(folder, record, tuple(heads))


def _chosen(whole: Part, selection: SelectionRecord) -> tuple[Part, ...]:
    """The head that was chosen among the settings of a search, or each of those whose mean answers."""
    if not selection.averaged:
        return (replace(whole, settings=chosen_settings(whole.settings, selection.chosen)),)
    return tuple(
        replace(
            whole,
            settings=chosen_settings(whole.settings, one.settings),
            weights=_below(whole.weights, f"head-{number}"),
            transforms=_below(whole.transforms, f"head-{number}"),
        )
        for number, one in enumerate(selection.averaged, 1)
    )


def _below(stored: Mapping[str, Any], target: str) -> dict[str, Any]:
    return {name.removeprefix(f"{target}."): one for name, one in stored.items() if name.startswith(f"{target}.")}


def _bytes(path: Path) -> bytes:
    """Read a safetensors file, once it is known to be one."""
    try:
        data = path.read_bytes()
        load_arrays(data)
        return data
    except (OSError, SafetensorError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0]
        raise EmocacheError(f"{path}: gone or damaged ({why}); delete the folder {path.parent} and train this run"
                            " again") from error  # fmt: skip
