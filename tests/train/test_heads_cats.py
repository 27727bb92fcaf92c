"""The CATS-Transformer against loops over single clips, frames and heads, written from the equations."""

import math
from typing import Any

import pytest
import torch

from emocache.cache import EmocacheError
from emocache.train.config.loading import load_settings
from emocache.train.fit.losses import concordance_loss
from emocache.train.heads import Frames, Shape
from emocache.train.heads.cats import CATS, CATSSettings
from emocache.train.heads.head import Outputs
from emocache.train.heads.layers.channel_gate import ChannelGate, GateKind

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "layers": 2, "feedforward": 12, "dropout": 0.0}
DIM, LENGTHS = 32, (6, 1, 4)


def clips() -> Frames:
    """Three clips of noise, with noise in the padding too."""
    torch.manual_seed(2)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    return Frames(torch.randn(len(LENGTHS), max(LENGTHS), DIM), mask)


def build(outputs: int = 1, **changes: Any) -> CATS:
    """A head in evaluation mode whose weights are neither zero nor small."""
    torch.manual_seed(1)
    head = CATS(CATSSettings(**{**SMALL, **changes}), Shape({"frames": DIM}, outputs, per_frame=True))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return head.eval()


def linear(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return layer.weight @ x + layer.bias  # type: ignore[no-any-return]


def normed(layer: Any, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5) * layer.weight + layer.bias  # type: ignore[no-any-return]


def softmax(scores: list[torch.Tensor]) -> list[torch.Tensor]:
    powers = [torch.exp(score) for score in scores]
    return [power / torch.stack(powers).sum() for power in powers]


def attend(query: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], heads: int) -> torch.Tensor:
    """softmax(q k / sqrt d) v of each head, side by side."""
    size = len(query) // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = softmax([query[part] @ key[part] / math.sqrt(size) for key in keys])
        mixed.append(torch.stack([w * value[part] for w, value in zip(weights, values, strict=True)]).sum(dim=0))
    return torch.cat(mixed)


def position(t: int, width: int) -> torch.Tensor:
    angles = [t / 10000 ** (2 * i / width) for i in range(width // 2)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])


def gate_weights(fc: Any, frames: torch.Tensor) -> torch.Tensor:
    """sigmoid(FC(mean) + FC(max)) of (T, D) frames."""

    def map_(x: torch.Tensor) -> torch.Tensor:
        return linear(fc[2], linear(fc[0], x).clamp(min=0)) if isinstance(fc, torch.nn.Sequential) else linear(fc, x)

    return 1 / (1 + torch.exp(-map_(frames.mean(dim=0)) - map_(frames.amax(dim=0))))


def encoder_states(head: CATS, frames: torch.Tensor) -> list[torch.Tensor]:
    """The encoder's output of each frame of one clip, (T, D) frames."""
    s, states = head.settings, []
    for t, frame in enumerate(frames):
        gated = frame
        if head.gate is not None:
            gated = frame * gate_weights(head.gate.fc, frames[: t + 1] if s.causal == "full" else frames)
        states.append(linear(head.embedding, gated) + position(t, s.width))
    for layer in head.encoder.layers:
        w: Any = layer
        before = [normed(w.norm1, x) for x in states]
        q, k, v = w.self_attn.in_proj_weight.chunk(3)
        bq, bk, bv = w.self_attn.in_proj_bias.chunk(3)
        keys, values = [k @ x + bk for x in before], [v @ x + bv for x in before]
        for t, x in enumerate(before):
            end = len(before) if s.causal == "none" else t + 1
            mixed = attend(q @ x + bq, keys[:end], values[:end], s.heads)
            states[t] = states[t] + linear(w.self_attn.out_proj, mixed)
        states = [x + linear(w.linear2, linear(w.linear1, normed(w.norm2, x)).clamp(min=0)) for x in states]
    return [normed(head.encoder.norm, x) for x in states]


def decode(head: CATS, states: list[torch.Tensor], fed: list[torch.Tensor]) -> list[torch.Tensor]:
    """The values of as many frames as values are fed, and one more."""
    s, decoder = head.settings, head.decoder
    assert decoder is not None
    tokens = [head.start, *(linear(head.previous, value) for value in fed)]
    tokens = [x + position(t, s.width) for t, x in enumerate(tokens)]
    for layer in decoder.layers:
        w: Any = layer
        before = [normed(w.norms[0], x) for x in tokens]
        for t, x in enumerate(before):
            keys, values = [[linear(m, y) for y in before[: t + 1]] for m in (w.own.key, w.own.value)]
            tokens[t] = tokens[t] + linear(w.own.output, attend(linear(w.own.query, x), keys, values, s.heads))
        for t, token in enumerate(tokens):
            seen = states[: t + 1] if s.causal == "full" else states
            keys, values = [[linear(m, y) for y in seen] for m in (w.cross.key, w.cross.value)]
            query = linear(w.cross.query, normed(w.norms[1], token))
            tokens[t] = token + linear(w.cross.output, attend(query, keys, values, s.heads))
        first, _, _, last = w.feedforward
        tokens = [x + linear(last, linear(first, normed(w.norms[2], x)).clamp(min=0)) for x in tokens]
    return [value(head, normed(decoder.norm, x)) for x in tokens]


def value(head: CATS, state: torch.Tensor) -> torch.Tensor:
    out = linear(head.mlp[2], linear(head.mlp[0], state).clamp(min=0))
    return torch.tanh(out) if head.settings.output == "tanh" else out


VARIANTS: list[dict[str, Any]] = [
    *({"gate": gate, "causal": causal} for gate in ("cbam16", "off") for causal in ("encoder_only", "full", "none")),
    {"gate": "single_fc", "output": "tanh", "outputs": 2},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@torch.no_grad()
def test_teacher_forced_values_follow_the_equations(changes: dict[str, Any]) -> None:
    head, frames = build(**changes), clips()
    truth = torch.randn(len(LENGTHS), max(LENGTHS), head.shape.outputs)
    found = head(frames, teacher=truth).prediction
    for row, length in enumerate(LENGTHS):
        states = encoder_states(head, frames.values[row, :length])
        expected = torch.stack(decode(head, states, list(truth[row, : length - 1])))
        assert (found[row, :length] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@torch.no_grad()
def test_free_running_with_a_cache_is_computing_everything_anew_at_each_step(changes: dict[str, Any]) -> None:
    head, frames = build(**changes), clips()
    found = head(frames).prediction
    for row, length in enumerate(LENGTHS):
        states = encoder_states(head, frames.values[row, :length])
        own: list[torch.Tensor] = []
        for _ in range(length):
            own.append(decode(head, states, own)[-1])
        assert (found[row, :length] - torch.stack(own)).abs().max() < 1e-5


@torch.no_grad()
def test_without_a_decoder_values_come_from_the_encoder() -> None:
    head, frames = build(decoder="none"), clips()
    found = head(frames).prediction
    for row, length in enumerate(LENGTHS):
        states = encoder_states(head, frames.values[row, :length])
        assert (found[row, :length] - torch.stack([value(head, x) for x in states])).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["cbam16", "single_fc"])
@torch.no_grad()
def test_gate_is_a_sigmoid_of_mean_and_maximum_over_valid_frames(kind: GateKind) -> None:
    frames = clips()
    torch.manual_seed(0)
    whole, causal = ChannelGate(DIM, kind), ChannelGate(DIM, kind, causal=True)
    causal.load_state_dict(whole.state_dict())
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            expected = gate_weights(whole.fc, frames.values[row, : t + 1])
            assert (causal(frames.values, frames.mask)[row, t] - expected).abs().max() < 1e-6
        assert (whole(frames.values, frames.mask)[row, 0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("dim", "kind", "count"),
    [
        (640, "cbam16", 2 * 640 * 40 + 40 + 640),
        (512, "cbam16", 2 * 512 * 32 + 32 + 512),
        (128, "cbam16", 2 * 128 * 8 + 8 + 128),
        (640, "single_fc", 640 * 640 + 640),
    ],
)
def test_gate_has_a_sixteenth_of_the_channels_between_its_layers(dim: int, kind: GateKind, count: int) -> None:
    assert sum(p.numel() for p in ChannelGate(dim, kind).parameters()) == count


@torch.no_grad()
def test_the_gate_of_a_whole_utterance_is_kept() -> None:
    frames = clips()
    for causal in ("encoder_only", "full"):
        head = build(causal=causal)
        kept = head(frames).kept["gate"]
        assert kept.shape == (len(LENGTHS), DIM) and head.gate is not None
        for row, length in enumerate(LENGTHS):
            expected = gate_weights(head.gate.fc, frames.values[row, :length])
            assert (kept[row] - expected).abs().max() < 1e-6
    assert not build(gate="off")(frames).kept


@pytest.mark.parametrize("length", [7, 14])
@torch.no_grad()
def test_free_running_passes_each_frame_through_each_layer_once(length: int) -> None:
    """So that its cost is that of L queries over at most L keys, twice a layer; anew at each step it would be L^3."""
    head = build()
    assert head.decoder is not None
    tokens = {"own": 0, "memory": 0}
    for layer in head.decoder.layers:
        own: Any = layer
        own.own.output.register_forward_hook(lambda _, given, __: tokens.update(own=tokens["own"] + len(given[0]) // 3))
        own.cross.key.register_forward_hook(lambda _, given, __: tokens.update(memory=tokens["memory"] + length))
    head(Frames(torch.randn(3, length, DIM), torch.ones(3, length, dtype=torch.bool)))
    assert tokens == {"own": 2 * length, "memory": 2 * length}


def changed_outputs(head: CATS, encoder: bool) -> torch.Tensor:
    """(T,) bool: where outputs, or encoder states, change when frames from the fifth on change."""
    values, mask = torch.randn(1, 8, DIM), torch.ones(1, 8, dtype=torch.bool)
    other = values.clone()
    other[:, 4:] += torch.randn(1, 4, DIM)
    found: list[torch.Tensor] = []
    if encoder:
        head.encoder.register_forward_hook(lambda _, __, states: found.append(states))
    for one in (values, other):
        prediction = head(Frames(one, mask)).prediction
        if not encoder:
            found.append(prediction)
    return (found[0] - found[1]).abs().amax(dim=-1)[0] > 1e-6


@torch.no_grad()
def test_later_frames_change_earlier_ones_only_as_declared() -> None:
    past, everything = [False] * 4 + [True] * 4, [True] * 8
    assert changed_outputs(build(causal="full"), encoder=False).tolist() == past
    assert changed_outputs(build(causal="full", decoder="none"), encoder=False).tolist() == past
    assert changed_outputs(build(causal="encoder_only", gate="off"), encoder=True).tolist() == past
    assert changed_outputs(build(causal="encoder_only", gate="off"), encoder=False).tolist() == everything
    assert (
        changed_outputs(build(causal="encoder_only", gate="single_fc"), encoder=True).tolist() == everything
    )  # by way of the gate
    assert changed_outputs(build(causal="none", gate="off"), encoder=True).tolist() == everything


def test_scheduled_sampling_feeds_the_head_what_it_gave_at_first() -> None:
    frames, truth = clips(), torch.randn(len(LENGTHS), max(LENGTHS), 1)
    forced, sampled = build(), build(scheduled_sampling=1.0).train()
    first = forced(frames, teacher=truth).prediction.detach()
    expected, found = forced(frames, teacher=first).prediction, sampled(frames, teacher=truth).prediction
    assert torch.allclose(expected, found, atol=1e-6)
    for one in (expected, found):
        one[frames.mask].sum().backward()
    for one, other in zip(forced.parameters(), sampled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-5)  # type: ignore[arg-type]
    assert torch.equal(sampled.eval()(frames, teacher=truth).prediction, forced(frames, teacher=truth).prediction)


def test_who_is_told_the_truth_says_so() -> None:
    assert build().teacher == "training" and build().settings.diagnostic() is None
    told = build(decode="teacher_forced")
    assert told.teacher == "always" and told.settings.diagnostic() == "teacher-forced decoding, not a prediction"
    assert build(decoder="none").teacher == "never"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("head.width=10", "width 10 must be a multiple of 2 x heads = 8"),
        ("head.decode=teacher_forced", "without a decoder nothing is fed back; leave decode and"),
        ("head.scheduled_sampling=0.5", "without a decoder nothing is fed back; leave decode and"),
        ("task=regression", "head 'cats' does not fit task 'regression'; it is for frame_regression"),
    ],
)
def test_settings_that_contradict_each_other_are_told(change: str, message: str) -> None:
    with pytest.raises(EmocacheError, match=message):
        load_settings("paper1/av-cats-no-decoder-valence", [change])


def smooth_tracks(count: int, seed: int) -> tuple[Frames, torch.Tensor]:
    """Clips of 24 frames in noise, driven by a slow track of one value a frame, (count, 24, 1)."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, 1, 32, generator=generator)
    track = torch.nn.functional.avg_pool1d(steps, 9, stride=1).transpose(1, 2) * 3
    noise = torch.randn(count, 24, 4, generator=generator)
    values = track * torch.tensor([1.0, -1.0, 0.5, 0.0]) + 0.5 * noise
    return Frames(values, torch.ones(count, 24, dtype=torch.bool)), track


def test_trained_on_the_truth_it_predicts_unseen_clips_by_itself() -> None:
    torch.manual_seed(0)
    settings = CATSSettings(width=16, heads=4, layers=1, feedforward=32, dropout=0.0)
    head = CATS(settings, Shape({"frames": 4}, 1, per_frame=True))
    optimiser = torch.optim.Adam(head.parameters(), lr=5e-3)
    frames, truth = smooth_tracks(48, seed=1)
    for _ in range(100):
        optimiser.zero_grad()
        outputs: Outputs = head(frames, teacher=truth)
        ((outputs.prediction - truth) ** 2).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    unseen, expected = smooth_tracks(32, seed=2)
    found = head.eval()(unseen).prediction
    assert 1 - concordance_loss(found, expected, torch.ones_like(expected, dtype=torch.bool)) > 0.6
