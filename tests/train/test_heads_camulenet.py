"""CAMuLeNet against loops over single utterances, its sizes, its two tasks and its AlexNet."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from emocache.cache import EmocacheError
from emocache.train.config.sections import LossSettings
from emocache.train.fit.losses import cross_entropy, make_loss, total_loss
from emocache.train.heads import Frames, Outputs, Shape
from emocache.train.heads.camulenet import AlexNet, CAMuLeNet, CAMuLeNetSettings

B, EMOTIONS = 4, 3
DIMS = {"whisper": 6, "mfcc": 5, "spectrogram": 7}
LENGTHS = {"whisper": [9, 4, 0, 1], "mfcc": [3, 7, 5, 0], "spectrogram": [1, 0, 1, 1]}
SMALL: dict[str, Any] = {"width": 8, "gru_hidden": 3, "hidden": 5, "fusion_frames": 6, "mfcc_frames": 4}
CODE = {"coattn_norm": "none", "layer_norm": False, "mfcc_pool": "flatten"}
ALEXNET = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))  # layer, stride, padding
POOLED = (0, 3, 10)  # layers with a pooling after them


def _inputs(lengths: dict[str, list[int]] = LENGTHS, dims: dict[str, int] = DIMS) -> tuple[Frames, Frames, Frames]:
    """Three inputs with rubbish in the padding; three utterances lack one each."""
    made = []
    for role, own in lengths.items():
        mask = torch.arange(max(own)) < torch.tensor(own).unsqueeze(1)
        values = torch.randn(len(own), max(own), dims[role])
        made.append(Frames(values.masked_fill(~mask.unsqueeze(-1), 77.0), mask))
    return made[0], made[1], made[2]


def _head(**settings: Any) -> CAMuLeNet:
    chosen = CAMuLeNetSettings(**{**SMALL, **settings})
    head = CAMuLeNet(chosen, Shape(DIMS, EMOTIONS, auxiliary=2 if chosen.gender else 0)).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return head


def _dense(x: torch.Tensor, state: dict[str, torch.Tensor], name: str, norm: bool = False) -> torch.Tensor:
    """ReLU of a linear layer, and its layer normalisation."""
    y = torch.relu(state[f"{name}.0.weight"] @ x + state[f"{name}.0.bias"])
    if norm:
        mean = y.sum() / len(y)
        variance = ((y - mean) ** 2).sum() / len(y)
        y = (y - mean) / torch.sqrt(variance + 1e-5) * state[f"{name}.2.weight"] + state[f"{name}.2.bias"]
    return y


def _gru(frames: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """Two bidirectional layers, a step at a time (Cho et al. 2014, as torch.nn.GRU documents it)."""
    for layer in (0, 1):
        directions = []
        for end in ("", "_reverse"):
            wi, wh, bi, bh = (state[f"gru.{k}_l{layer}{end}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h = torch.zeros(wh.shape[1])
            steps = range(len(frames)) if end == "" else reversed(range(len(frames)))
            states = torch.zeros(len(frames), len(h))
            for t in steps:
                (ri, zi, ni), (rh, zh, nh) = (wi @ frames[t] + bi).chunk(3), (wh @ h + bh).chunk(3)
                r, z = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
                h = (1 - z) * torch.tanh(ni + r * nh) + z * h
                states[t] = h
            directions.append(states)
        frames = torch.cat(directions, dim=1)
    return frames


def _reference(head: CAMuLeNet, inputs: tuple[Frames, ...], row: int) -> list[torch.Tensor]:
    """z, the logits of the emotions and what both tasks share, of one utterance."""
    settings, state = head.settings, head.state_dict()
    whisper, mfcc, spectrogram = (one.values[row][one.mask[row]] for one in inputs)
    states = _gru(mfcc, state) if len(mfcc) else torch.zeros(0, 6)
    if settings.mfcc_pool == "flatten":
        summary = torch.zeros(settings.mfcc_frames, 6)
        summary[: min(len(states), 4)] = states[:4]
        summary = summary.flatten()
    else:
        there = len(states) > 0
        summary = torch.cat([states.mean(dim=0), states.max(dim=0).values]) if there else torch.zeros(12)
    m = _dense(summary, state, "mfcc")
    s = _dense(spectrogram[0] if len(spectrogram) else torch.zeros(7), state, "spectrogram")
    attended = torch.zeros(6)
    if settings.coattention:
        g = _dense(torch.cat([s, m]), state, "fusion", settings.layer_norm)
        used = min(len(whisper), settings.fusion_frames)
        total = sum(math.exp(g[t]) for t in range(used)) if settings.coattn_norm == "softmax" else 1.0
        for t in range(used):
            attended += (math.exp(g[t]) / total if settings.coattn_norm == "softmax" else g[t]) * whisper[t]
    else:
        for frame in whisper:
            attended += frame / len(whisper)
    z = torch.cat([m, s, _dense(attended, state, "whisper.1", settings.layer_norm)])
    shared = _dense(_dense(z, state, "shared.1"), state, "shared.2")
    return [z, state["emotion.weight"] @ shared + state["emotion.bias"], shared]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gender": False},
        {"gender": False, "coattention": False},
        {"coattention": False},
        {"coattn_norm": "none"},
        {"layer_norm": False},
        {"mfcc_pool": "flatten"},
        CODE,
    ],
    ids=lambda settings: "-".join(f"{k}={v}" for k, v in settings.items()) or "default",
)
def test_it_is_its_equations(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    head = _head(**settings)
    inputs = _inputs()
    with torch.no_grad():
        outputs = head(*inputs)
    for row in range(B):
        z, emotion, shared = _reference(head, inputs, row)
        assert (outputs.kept["embedding"][row] - z).abs().max() < 1e-5
        assert (outputs.prediction[row] - emotion).abs().max() < 1e-5
        if head.settings.gender:
            state = head.state_dict()
            expected = state["gender.weight"] @ shared + state["gender.bias"]
            assert (outputs.terms[1].output[row] - expected).abs().max() < 1e-5


def _loss(outputs: Outputs, emotions: torch.Tensor, genders: torch.Tensor | None) -> torch.Tensor:
    loss = make_loss(LossSettings(kind="cross_entropy"), None)
    return total_loss(loss, outputs, emotions, torch.ones(B, dtype=torch.bool), genders)


def test_the_loss_weighs_emotion_and_gender_of_those_who_have_one() -> None:
    torch.manual_seed(0)
    outputs = _head()(*_inputs())
    emotions, genders = torch.tensor([0, 1, 2, 0]), torch.tensor([1, -1, 0, -1])
    logits = outputs.terms[1].output
    second = -(torch.log_softmax(logits[0], 0)[1] + torch.log_softmax(logits[2], 0)[0]) / 2
    expected = 0.4 * cross_entropy(outputs.prediction, emotions) + 0.1 * second + 0.2
    assert torch.allclose(_loss(outputs, emotions, genders), expected, atol=1e-6)
    nobody = 0.4 * cross_entropy(outputs.prediction, emotions) + 0.2
    assert torch.allclose(_loss(outputs, emotions, torch.full((B,), -1)), nobody, atol=1e-6)


def test_one_task_is_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    outputs = _head(gender=False)(*_inputs())
    emotions = torch.tensor([0, 1, 2, 0])
    assert torch.allclose(_loss(outputs, emotions, None), cross_entropy(outputs.prediction, emotions), atol=1e-6)


def _parameters(whisper: int, **settings: Any) -> dict[str, int]:
    """Parameters of each part at the paper's size, computed without memory for them."""
    dims = {"whisper": whisper, "mfcc": 40, "spectrogram": 9216}
    with torch.device("meta"):
        head = CAMuLeNet(CAMuLeNetSettings(**settings), Shape(dims, 6, auxiliary=2))
    return {name: sum(p.numel() for p in part.parameters()) for name, part in head.named_children()}


def test_sizes_are_the_papers() -> None:
    found = _parameters(1024)
    gru = 2 * 3 * 256 * (40 + 256 + 2) + 2 * 3 * 256 * (512 + 256 + 2)
    assert found["gru"] == gru and found["mfcc"] == 1024 * 1024 + 1024
    assert found["spectrogram"] == 9216 * 1024 + 1024
    assert found["fusion"] == 2048 * 1500 + 1500 + 2 * 1500
    assert found["whisper"] == 1024 * 1024 + 1024 + 2 * 1024
    assert found["shared"] == (3072 * 128 + 128) + (128 * 128 + 128)
    assert found["emotion"] == 128 * 6 + 6 and found["gender"] == 128 * 2 + 2
    assert _parameters(512)["whisper"] == 512 * 1024 + 1024 + 2 * 1024


def test_the_codes_flattened_states_take_most_parameters() -> None:
    assert _parameters(1024, mfcc_pool="flatten")["mfcc"] == 256512 * 1024 + 1024  # 262.7 M


PICTURES = {"whisper": 6, "mfcc": 5, "spectrogram": 24}


def _with_pictures() -> tuple[CAMuLeNet, tuple[Frames, Frames, Frames]]:
    """A head that trains AlexNet, as initialised, and pictures of 90, 0, 3 and 70 frames."""
    settings = CAMuLeNetSettings(**SMALL, alexnet="trained", spectrogram_frames=80)
    head = CAMuLeNet(settings, Shape(PICTURES, EMOTIONS, auxiliary=2)).eval()
    return head, _inputs({**LENGTHS, "spectrogram": [90, 0, 3, 70]}, PICTURES)


def _alexnet(picture: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
    """(80, 24) frames through AlexNet, without batch and modules; bands are filled up to 63."""
    x = torch.zeros(1, 63, 80)
    x[0, :24] = picture.T
    for position, stride, padding in ALEXNET:
        weight, bias = (state[f"alexnet.features.{position}.{key}"] for key in ("weight", "bias"))
        columns = torch.nn.functional.unfold(x.unsqueeze(0), weight.shape[-1], padding=padding, stride=stride)[0]
        high, wide = ((n + 2 * padding - weight.shape[-1]) // stride + 1 for n in x.shape[1:])
        x = torch.relu(weight.flatten(1) @ columns + bias.unsqueeze(1)).view(-1, high, wide)
        if position in POOLED:
            x = x.unfold(1, 3, 2).unfold(2, 3, 2).amax(dim=(-2, -1))
    (high, wide) = x.shape[1:]
    pooled = torch.zeros(256, 6, 6)
    for i in range(6):
        for j in range(6):
            rows = slice(i * high // 6, -(-(i + 1) * high // 6))
            pooled[:, i, j] = x[:, rows, slice(j * wide // 6, -(-(j + 1) * wide // 6))].mean(dim=(1, 2))
    return pooled.flatten()


def test_a_trained_alexnet_sees_a_fixed_number_of_frames_whatever_the_batch() -> None:
    torch.manual_seed(0)
    head, inputs = _with_pictures()
    state = head.state_dict()
    with torch.no_grad():
        found = head(*inputs)
        for row, length in enumerate((80, 0, 3, 70)):
            picture = torch.zeros(80, 24)
            picture[:length] = inputs[2].values[row, :length]
            vector = _alexnet(picture, state) if length else torch.zeros(9216)
            expected = _dense(vector, state, "spectrogram")
            assert (found.kept["embedding"][row, 8:16] - expected).abs().max() < 1e-5
            alone = head(*(Frames(one.values[row : row + 1], one.mask[row : row + 1]) for one in inputs))
            assert (alone.prediction[0] - found.prediction[row]).abs().max() < 1e-5


def test_a_trained_alexnet_gets_gradients_that_do_not_depend_on_padding() -> None:
    torch.manual_seed(0)
    head, (whisper, mfcc, pictures) = _with_pictures()
    shorter = Frames(pictures.values[2:, :70], pictures.mask[2:, :70])
    longer = Frames(pictures.values[2:], pictures.mask[2:])
    others = (Frames(whisper.values[2:], whisper.mask[2:]), Frames(mfcc.values[2:], mfcc.mask[2:]))
    first = head.get_parameter("alexnet.features.0.weight")
    found = [
        torch.autograd.grad(head(*others, spectrogram).prediction.sum(), first)[0] for spectrogram in (shorter, longer)
    ]
    assert found[0].abs().max() > 0 and torch.allclose(found[0], found[1], atol=1e-6)


def _stored(path: Path, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """A file with torchvision's names and sizes: three channels, and a classifier."""
    state = {f"features.{key}": torch.randn_like(weight) for key, weight in AlexNet().features.state_dict().items()}
    state["features.0.weight"] = torch.randn(64, 3, 11, 11)
    state |= {"classifier.1.weight": torch.randn(2, 2), **changes}
    save_file(state, path)
    return state


def test_training_can_start_from_torchvisions_weights(tmp_path: Path) -> None:
    stored = _stored(tmp_path / "alexnet.safetensors")
    found = AlexNet(str(tmp_path / "alexnet.safetensors")).features.state_dict()
    for key in (key for key in found if not key.startswith("0.")):
        assert (found[key] == stored[f"features.{key}"]).all()
    assert found["0.weight"].shape == (64, 1, 11, 11)
    assert 0.9 < float(found["0.weight"].abs().max()) / math.sqrt(6 / (65 * 121)) <= 1  # Xavier, fans 121 and 64 x 121


def test_other_weights_are_told(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.safetensors"
    with pytest.raises(EmocacheError, match="cannot be read as safetensors"):
        AlexNet(str(path))
    _stored(path, **{"features.3.weight": torch.zeros(2, 2)})
    with pytest.raises(EmocacheError, match=r"features.3.weight is \[2, 2\], not \[192, 64, 5, 5\]"):
        AlexNet(str(path))
    with pytest.raises(ValueError, match="set alexnet = 'trained', or leave it out"):
        CAMuLeNetSettings(alexnet_weights=str(path))
