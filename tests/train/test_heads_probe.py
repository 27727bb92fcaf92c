"""The probe against its equation: one linear map of each frame, or of what is pooled before training."""

from itertools import pairwise
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch

from emocache.train.fit.predict import predict
from emocache.train.heads import Frames, Shape
from emocache.train.heads.head import FixedPooling
from emocache.train.heads.probe import Probe, ProbeSettings
from emocache.train.inputs.batches import Batches
from emocache.train.inputs.transforms import prepare

from .cases import Case

if TYPE_CHECKING:
    from .conftest import Toy


def probe(dim: int, per_frame: bool = False, pooling: FixedPooling = "mean") -> Probe:
    torch.manual_seed(4)
    head = Probe(ProbeSettings(pooling=pooling), Shape({"frames": dim}, 3, per_frame))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.eval()


@pytest.mark.parametrize("stream", ["toy", "vector"])
@pytest.mark.parametrize("pooling", get_args(FixedPooling))
def test_logits_are_a_linear_map_of_the_pooled_frames(toy: "Toy", pooling: FixedPooling, stream: str) -> None:
    """Through the trainer's batches; one vector an utterance, as a text's first token is, stays as it is."""
    case = Case("probe", ("head.kind=probe", f"head.pooling={pooling}"), {"frames": stream})
    settings = toy.case_settings(case, "features.normalise=none")
    dataset = toy.case_dataset(case, settings, longest=9)
    rows = np.arange(len(dataset.examples))
    batches = Batches(dataset, settings, prepare(dataset, settings, rows), torch.device("cpu"))
    head = probe(batches.dims["frames"], pooling=pooling)
    found = predict(head, batches, rows).outputs
    w, b = head.linear.weight.detach().numpy(), head.linear.bias.detach().numpy()
    for row in rows:
        frames = dataset.features[stream].of(row).astype(float)
        pooled = [sum(frames) / len(frames)]
        if pooling != "mean":
            pooled.append(np.sqrt(sum((frames - pooled[0]) ** 2) / len(frames)))
        if pooling == "mean_std_delta":
            steps = [after - before for before, after in pairwise(frames)] or [np.zeros_like(frames[0])]
            pooled.append(sum(steps) / len(steps))
            pooled.append(np.sqrt(sum((steps - pooled[2]) ** 2) / len(steps)))
        assert np.abs(found[row] - (w @ np.concatenate(pooled) + b)).max() < 1e-5


def test_a_frame_is_mapped_by_itself() -> None:
    values, mask = torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    head = probe(4, per_frame=True)
    found = head(Frames(values, mask))
    for row, frame in np.ndindex(2, 5):
        expected = head.linear.weight @ values[row, frame] + head.linear.bias
        assert torch.allclose(found[row, frame], expected, atol=1e-6)
