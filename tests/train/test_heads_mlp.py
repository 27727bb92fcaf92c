"""The MLP against the heads of four benchmarks, each written with torch's modules, an utterance at a time."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import layer_norm

from emocache.train.heads import Frames, Learned, Shape, build_head
from emocache.train.heads.head import Head
from emocache.train.heads.mlp import MLP, MLPSettings

LENGTHS = [7, 1, 4]
D, CLASSES = 6, 3
Reference = Callable[[torch.Tensor], torch.Tensor]


def clips(layers: int = 1) -> tuple[Frames, list[torch.Tensor]]:
    """A padded batch, and its utterances (T, layers x D) by themselves."""
    torch.manual_seed(0)
    frames = [torch.randn(length, layers * D) * 3 + 1 for length in LENGTHS]
    values = torch.nn.utils.rnn.pad_sequence(frames, batch_first=True)
    return Frames(values, torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)), frames


def means(frames: Sequence[torch.Tensor]) -> Frames:
    """The utterances as a trainer gives those that it has pooled."""
    vectors = torch.stack([clip.mean(0) for clip in frames]).unsqueeze(1)
    return Frames(vectors, torch.ones(len(frames), 1, dtype=torch.bool))


def linears(*widths: int) -> list[torch.nn.Linear]:
    return [torch.nn.Linear(into, out) for into, out in pairwise(widths)]


def load(head: Head, modules: Sequence[torch.nn.Module]) -> None:
    """Give the head the weights of the reference, in the order in which it has them."""
    theirs = [parameter for module in modules for parameter in module.parameters()]
    for ours, other in zip(head.parameters(), theirs, strict=True):
        ours.data.copy_(other.data)


def assert_is(head: Head, batch: Frames, frames: Sequence[torch.Tensor], reference: Reference) -> None:
    with torch.no_grad():
        found = head.eval()(batch)
        for row, clip in zip(found, frames, strict=True):
            assert torch.allclose(row, reference(clip), rtol=0, atol=1e-6)


def test_it_is_the_head_of_emobox() -> None:
    """examples/sb: layer_norm as features are stored, linear, ReLU, mean over frames, linear."""
    batch, frames = clips()
    first, last = linears(D, 5, CLASSES)
    head = MLP(MLPSettings(layer_norm_input=True, frame=(5,), hidden=()), Shape({"frames": D}, CLASSES))
    load(head, [first, last])
    assert_is(head, batch, frames, lambda clip: last(torch.relu(first(layer_norm(clip, clip.shape))).mean(0)))


def test_it_is_the_head_of_superb() -> None:
    """downstream/emotion: softmax weights of layers, linear projection, mean over frames, linear."""
    _, frames = clips(layers=2)
    first, last = linears(D, 5, CLASSES)
    settings = MLPSettings(frame=(5,), frame_activation="linear", hidden=())
    head = build_head(settings, Shape({"frames": D}, CLASSES), {"frames": Learned(layers=2)})
    weights = torch.nn.ParameterList([torch.tensor([0.3, -0.9])])
    load(head, [first, last, weights])

    def reference(clip: torch.Tensor) -> torch.Tensor:
        share = torch.softmax(weights[0], dim=0)
        return last(first(share[0] * clip[:, :D] + share[1] * clip[:, D:]).mean(0))  # type: ignore[no-any-return]

    # All of it is linear, so the trainer may take the mean first.
    assert settings.fixed_pooling("frames", per_frame=False) == "mean"
    assert_is(head, means(frames), frames, reference)


def test_it_is_the_encoder_of_mertools() -> None:
    """MLPEncoder: dropout of the mean vector, three linear layers with ReLU; then a linear output."""
    _, frames = clips()
    layers = linears(D, 5, 5, 5, CLASSES)
    settings = MLPSettings(pooled_dropout=0.3, hidden=(5, 5, 5))
    assert settings.fixed_pooling("frames", per_frame=False) == "mean"
    head = MLP(settings, Shape({"frames": D}, CLASSES))
    load(head, layers)
    pooled = means(frames)
    relu = torch.nn.ReLU()
    whole = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2], relu, layers[3])
    assert_is(head, pooled, frames, lambda clip: whole(clip.mean(0)))
    assert not torch.equal(head.train()(pooled), head(pooled))


def test_it_is_the_head_of_the_odyssey_2024_baseline() -> None:
    """net/pooling.py and net/ser.py: attentive statistics, dropout, linear, layer norm, ReLU, dropout, linear."""
    batch, frames = clips()
    hidden, score = torch.nn.Linear(D, D), torch.nn.Linear(D, 1, bias=False)
    first, last = linears(2 * D, 5, CLASSES)
    norm = torch.nn.LayerNorm(5)
    torch.nn.init.normal_(norm.weight)
    settings = MLPSettings(
        pooling="attentive_statistics", pooled_dropout=0.5, hidden=(5,), layer_norm=True, dropout=0.5
    )
    head = MLP(settings, Shape({"frames": D}, CLASSES))
    load(head, [hidden, score, first, norm, last])

    def reference(clip: torch.Tensor) -> torch.Tensor:
        w = torch.softmax(score(torch.tanh(hidden(clip))), dim=0)
        mean = (clip * w).sum(0)
        deviation = torch.sqrt(((clip**2 * w).sum(0) - mean**2).clamp(min=1e-5))
        return last(torch.relu(norm(first(torch.cat([mean, deviation])))))  # type: ignore[no-any-return]

    with torch.no_grad():  # the difference of squares, and the norm behind it, round in the sixth place
        for row, clip in zip(head.eval()(batch), frames, strict=True):
            assert torch.allclose(row, reference(clip), rtol=0, atol=1e-5)


def test_a_frame_goes_through_all_layers_by_itself() -> None:
    batch, frames = clips()
    layers = linears(D, 5, 4, 2)
    head = MLP(MLPSettings(frame=(5,), hidden=(4,)), Shape({"frames": D}, 2, per_frame=True))
    load(head, layers)
    with torch.no_grad():
        found = head.eval()(batch)
        for row, clip in zip(found, frames, strict=True):
            alone = layers[2](torch.relu(layers[1](torch.relu(layers[0](clip)))))
            assert torch.allclose(row[: len(clip)], alone, rtol=0, atol=1e-6)


def test_the_input_is_normalised_over_what_there_is() -> None:
    """Frames at which a stream has nothing are zeros, which are no values of the utterance."""
    values = torch.randn(1, 4, D) * 5 + 2
    valid = torch.ones(1, 4, D, dtype=torch.bool)
    valid[0, 2:, 3:] = False
    head = MLP(MLPSettings(layer_norm_input=True, frame=(5,), hidden=()), Shape({"frames": D}, CLASSES)).eval()
    there = values[valid]
    normal = torch.where(valid, (values - there.mean()) / torch.sqrt(there.var(correction=0) + 1e-5), 0.0)
    plain = MLP(MLPSettings(frame=(5,), hidden=()), Shape({"frames": D}, CLASSES)).eval()
    plain.load_state_dict(head.state_dict())
    mask = torch.ones(1, 4, dtype=torch.bool)
    found = head(Frames(values.masked_fill(~valid, 0.0), mask, valid=valid))
    assert torch.allclose(found, plain(Frames(normal, mask)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "name"), [({"frame": (4,)}, "frame"), ({"layer_norm_input": True}, "layer_norm_input")]
)
def test_steps_are_of_frames_as_they_are(given: dict[str, object], name: str) -> None:
    with pytest.raises(ValidationError, match=rf"'mean_std_delta' is of the frames as they are; leave {name} out, or"):
        MLPSettings.model_validate({"pooling": "mean_std_delta", **given})
