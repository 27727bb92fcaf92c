"""The promises of every head: batches and padding change nothing, an absent input counts as zeros, and it can learn."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from emocache.train.config.settings import Settings
from emocache.train.data.dataset import Dataset
from emocache.train.fit.fold_run import learned
from emocache.train.fit.loop import train_head
from emocache.train.fit.losses import batch_loss, make_loss
from emocache.train.fit.predict import predict
from emocache.train.heads import HEADS, Frames, Head, Shape, build_head
from emocache.train.heads.head import as_outputs
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.prepared import Prepared
from emocache.train.inputs.transforms import prepare

from . import cases, cases_paper1, cases_paper2, cases_paper3, cases_paper4, cases_paper5

if TYPE_CHECKING:
    from .cases import Case
    from .conftest import Toy

CPU = torch.device("cpu")
PAPERS = (cases_paper1, cases_paper2, cases_paper3, cases_paper4, cases_paper5)
CASES = [*cases.BASIC, *(case for paper in PAPERS for case in paper.CASES)]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Ready:
    """A case's data, prepared, and its head with weights that are neither zero nor small."""

    def __init__(self, toy: "Toy", case: "Case", *more: str, longest: int = 40, absent: tuple[str, ...] = ()) -> None:
        self.settings: Settings = toy.case_settings(case, *more)
        self.dataset: Dataset = toy.case_dataset(case, self.settings, longest, absent)
        self.prepared: Prepared = prepare(self.dataset, self.settings, range(len(self.dataset.examples)))
        self.batches = Batches(self.dataset, self.settings, self.prepared, CPU)
        self.rows = np.arange(len(self.dataset.examples))

    def head(self, std: float | None = 0.3) -> Head:
        torch.manual_seed(1)
        outputs = len(self.dataset.classes) or len(self.settings.targets)
        shape = Shape(self.batches.dims, outputs, self.settings.per_frame, len(self.dataset.auxiliary))
        head = build_head(self.settings.head, shape, learned(self.prepared, self.settings))
        for parameter in head.parameters() if std else ():  # the probe starts at zero, where everything is equal
            torch.nn.init.normal_(parameter, std=std)  # type: ignore[arg-type]
        return head


def test_every_head_is_tested() -> None:
    assert {case.changes[0].removeprefix("head.kind=") for case in CASES} == set(HEADS)


@each_case
def test_an_output_does_not_depend_on_its_batch(toy: "Toy", case: "Case") -> None:
    ready = Ready(toy, case)
    module = ready.head()
    together = predict(module, ready.batches, ready.rows).outputs
    for row in ready.rows:
        (alone,) = predict(module, ready.batches, ready.rows[row : row + 1]).outputs
        frames = (ready.batches.lengths[row],) if ready.settings.per_frame else ()
        assert alone.shape == together[row].shape == frames + alone.shape[-1:]
        assert np.isfinite(alone).all() and np.abs(alone - together[row]).max() < 1e-5


@each_case
def test_padding_changes_neither_output_nor_loss_nor_gradients_nor_statistics(toy: "Toy", case: "Case") -> None:
    ready = Ready(toy, case)
    loss = make_loss(ready.settings.loss, None)
    found = []
    for padding in (0, 9):
        module = ready.head().train()
        for dropout in (m for m in module.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)):
            dropout.p = 0.0
        batch = ready.batches.gather(np.arange(10), extra_padding=padding)
        inputs = tuple(_with_padding_of(frames, 5.0 if padding else 0.0) for frames in batch.inputs)
        teacher = {} if module.teacher == "never" else {"teacher": batch.targets}
        outputs = as_outputs(module(*inputs, **teacher))
        value = batch_loss(loss, outputs, batch)
        value.backward()  # type: ignore[no-untyped-call]
        valid = outputs.prediction[batch.inputs[0].mask] if ready.settings.per_frame else outputs.prediction
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        statistics = [b.float() for b in module.buffers()]
        found.append([valid.detach(), value.detach(), *gradients, *statistics])
    for plain, padded in zip(*found, strict=True):
        assert torch.allclose(plain, padded, atol=1e-5)


def _with_padding_of(frames: Frames, value: float) -> Frames:
    return replace(frames, values=frames.values.masked_fill(~frames.mask.unsqueeze(-1), value))


@each_case
def test_one_frame_and_very_many_are_no_trouble(toy: "Toy", case: "Case") -> None:
    ready = Ready(toy, case, longest=600)
    module = ready.head(std=0.05)
    shortest, longest = np.argmin(ready.batches.lengths), np.argmax(ready.batches.lengths)
    for row in (shortest, longest):
        batch = ready.batches.gather(np.array([row]))
        one = tuple(_first(frames, 1) for frames in batch.inputs) if row == shortest else batch.inputs
        module.eval()
        teacher = {"teacher": batch.targets[:, :1]} if module.teacher == "always" else {}
        with torch.no_grad():
            assert torch.isfinite(as_outputs(module(*one, **teacher)).prediction).all()


def _first(frames: Frames, count: int) -> Frames:
    segments = None if frames.segments is None else frames.segments[:, :1].clamp(max=1)
    words = None if frames.words is None else frames.words[:, :count]
    return Frames(frames.values[:, :count], frames.mask[:, :count], segments, words)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if len(c.streams) > 1], ids=lambda case: case.name)
def test_an_absent_input_counts_as_zeros(toy: "Toy", case: "Case") -> None:
    """Beside others or alone, whatever lies under a mask that is false, the output is finite and the same."""
    for role in case.streams:
        toy.root = toy.folder / role
        ready = Ready(toy, case, 'modalities="any"', absent=(role,))
        module = ready.head().eval()
        lengths = {name: one.features.lengths for name, one in ready.prepared.inputs.items()}
        row = int(np.flatnonzero(lengths[role] == 0)[0])
        (alone,) = predict(module, ready.batches, np.array([row])).outputs
        together = predict(module, ready.batches, ready.rows).outputs[row]
        assert np.isfinite(alone).all() and np.abs(alone - together).max() < 1e-5
        batch = ready.batches.gather(np.array([row]))
        filled = tuple(_with_padding_of(frames, 5.0) for frames in batch.inputs)
        with torch.no_grad():
            given = ready.batches.native(as_outputs(module(*filled)).prediction.numpy()[0])
        assert np.abs(given - alone).max() < 1e-5


@pytest.mark.slow
@each_case
def test_every_head_overfits_sixteen_utterances(toy: "Toy", case: "Case") -> None:
    ready = Ready(toy, case, "training.batch_size=16", "augment={}", longest=8)
    module = ready.head(std=None)
    for dropout in (m for m in module.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)):
        dropout.p = 0.0
    loss = make_loss(ready.settings.loss, None)
    rates = [ready.settings.training.learning_rate] * 100
    history = train_head(module, ready.batches, ready.rows[:16], ready.settings, loss, 0, None, rates).history
    assert min(line["train_loss"] for line in history) < 0.05 * history[0]["train_loss"]


ONE_OF_EACH = list({(case.changes[0], case.target == "valence"): case for case in CASES}.values())


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.name)
def test_the_bias_of_the_output_moves_all_values(toy: "Toy", case: "Case") -> None:
    """Of heads that give numbers; after the first frame CATS sees its own."""
    ready = Ready(toy, case)
    if not {"regression", "frame_regression"} & set(ready.settings.head.tasks()):
        return
    torch.manual_seed(1)
    shape = Shape(ready.batches.dims, 2, ready.settings.per_frame)
    module = build_head(ready.settings.head, shape, learned(ready.prepared, ready.settings)).eval()
    found = []
    for values in ([0.0, 0.0], [500.0, -3.0]):
        module.start_at(torch.tensor(values))
        with torch.no_grad():
            given = as_outputs(module(*ready.batches.gather(np.arange(4)).inputs)).prediction
        found.append(given[:, 0] if ready.settings.per_frame else given)
    assert torch.allclose(found[1] - found[0], torch.tensor([500.0, -3.0]), atol=1e-3)


def test_order_matters_to_the_transformer(toy: "Toy") -> None:
    ready = Ready(toy, next(case for case in CASES if case.name == "transformer-mean"))
    module = ready.head().eval()
    values, mask = torch.randn(2, 9, 8), torch.ones(2, 9, dtype=torch.bool)
    one, other = (module(Frames(v, mask)) for v in (values, values.flip(1)))
    assert (one - other).abs().max() > 1e-3
