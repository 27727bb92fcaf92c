"""The encoder baselines of paper 4 against loops over single utterances."""

import itertools

import pytest
import torch

from emocache.cache import EmocacheError
from emocache.train.heads import Frames, Outputs, Shape, build_head
from emocache.train.heads.cnn import CNN1D, CNN2D, CNN1DSettings, CNN2DSettings

EPSILON = 1e-5


def _random(head: torch.nn.Module) -> None:
    """Weights of a trained head's size, and running statistics that are not those of the start."""
    for name, tensor in head.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.2)


def _normalised(x: torch.Tensor, norm: torch.nn.Module) -> torch.Tensor:
    """One channel after the other, with the running statistics; channels first."""
    w, b, mean, var = (norm.state_dict()[key] for key in ("weight", "bias", "running_mean", "running_var"))
    return torch.stack([(x[c] - mean[c]) / torch.sqrt(var[c] + EPSILON) * w[c] + b[c] for c in range(len(x))])


def _linear(x: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
    state = layer.state_dict()
    return torch.addmv(state["bias"], state["weight"], x)


def test_cnn1d_is_its_equations() -> None:
    torch.manual_seed(0)
    head = build_head(CNN1DSettings(channels=3, hidden=5), Shape({"frames": 9}, 4)).eval()
    _random(head)
    vectors = torch.randn(2, 1, 9)
    outputs = head(Frames(vectors, torch.ones(2, 1, dtype=torch.bool)))
    assert isinstance(outputs, Outputs) and (outputs.kept["embedding"] == vectors[:, 0]).all()
    convolution, norm, *_, first, _, second = head.get_submodule("layers").children()
    kernel, bias = convolution.state_dict()["weight"], convolution.state_dict()["bias"]
    for row, vector in enumerate(vectors[:, 0]):
        padded = torch.cat([torch.zeros(1), vector, torch.zeros(1)])
        maps = torch.stack(
            [torch.stack([kernel[c, 0] @ padded[d : d + 3] + bias[c] for d in range(9)]) for c in range(3)]
        )
        active = torch.relu(_normalised(maps, norm))
        halved = torch.stack([torch.maximum(active[:, d], active[:, d + 1]) for d in range(0, 8, 2)], dim=1)
        expected = _linear(torch.relu(_linear(halved.flatten(), first)), second)
        assert (outputs.prediction[row] - expected).abs().max() < 1e-5


def _block(picture: torch.Tensor, valid: list[bool], block: torch.nn.Module) -> tuple[torch.Tensor, list[bool]]:
    """(C, T, W) and which of the T rows are valid, through one block, an output at a time."""
    state = block.get_submodule("convolution").state_dict()
    kernel = state["weight"]
    size = kernel.shape[-1]
    channels, rows, columns = picture.shape
    padded = torch.zeros(channels, rows + 2, columns + 2)
    padded[:, 1:-1, 1:-1] = picture
    high, wide = ((n + 2 - size) // 2 + 1 for n in (rows, columns))
    out = torch.zeros(len(kernel), high, wide)
    for c, i, j in itertools.product(range(len(kernel)), range(high), range(wide)):
        seen = padded[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size]
        out[c, i, j] = torch.relu((seen * kernel[c]).sum() + state["bias"][c])
    read = [any(valid[max(2 * i - 1, 0) : 2 * i - 1 + size]) for i in range(high)]
    out = _normalised(out, block.get_submodule("norm"))
    out[:, [i for i in range(high) if not read[i]]] = 0
    pooled = torch.zeros(len(kernel), high // 2, wide // 2)
    for i, j in itertools.product(range(high // 2), range(wide // 2)):
        pooled[:, i, j] = out[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax(dim=(1, 2))
    return pooled, [any(read[2 * i : 2 * i + 2]) for i in range(high // 2)]


def test_cnn2d_is_its_equations() -> None:
    torch.manual_seed(0)
    settings = CNN2DSettings(frames=30, channels=(2, 3), kernels=(3, 5), hidden=(6, 4))
    head = build_head(settings, Shape({"frames": 21}, 3)).eval()
    _random(head)
    lengths = [33, 17, 1]
    values, mask = torch.randn(3, 33, 21), torch.arange(33) < torch.tensor(lengths).unsqueeze(1)
    found = head(Frames(values, mask))
    assert isinstance(found, torch.Tensor)
    for row, length in enumerate(lengths):
        picture = torch.zeros(1, 30, 21)
        picture[0, : min(length, 30)] = values[row, : min(length, 30)]
        valid = [t < length for t in range(30)]
        for block in head.get_submodule("blocks").children():
            picture, valid = _block(picture, valid, block)
        x = picture.flatten()
        layers = [m for m in head.get_submodule("output").children() if isinstance(m, torch.nn.Linear)]
        for layer in layers[:-1]:
            x = torch.relu(_linear(x, layer))
        assert (found[row] - _linear(x, layers[-1])).abs().max() < 1e-5


@pytest.mark.parametrize(("dim", "flattened"), [(512, 8192), (768, 12288), (1024, 16384)])
def test_cnn1d_has_the_papers_sizes(dim: int, flattened: int) -> None:
    with torch.device("meta"):
        head = CNN1D(CNN1DSettings(), Shape({"frames": dim}, 6))
    count = sum(p.numel() for p in head.parameters())
    assert count == (3 * 32 + 32) + 2 * 32 + (flattened * 512 + 512) + (512 * 6 + 6)


@pytest.mark.parametrize(("dim", "flattened"), [(512, 640), (1024, 1920)])
def test_cnn2d_has_the_codes_sizes(dim: int, flattened: int) -> None:
    head = CNN2D(CNN2DSettings(), Shape({"frames": dim}, 6)).eval()
    assert head.output[0].in_features == flattened
    with torch.no_grad():
        assert head(Frames(torch.randn(1, 40, dim), torch.ones(1, 40, dtype=torch.bool))).shape == (1, 6)


def test_cnn2d_starts_from_kaimings_initialisation() -> None:
    head = CNN2D(CNN2DSettings(), Shape({"frames": 512}, 6))
    state = head.state_dict()
    assert abs(float(state["blocks.3.convolution.weight"].std()) / (2 / (64 * 25)) ** 0.5 - 1) < 0.02
    assert abs(float(state["output.0.weight"].std()) / (2 / 640) ** 0.5 - 1) < 0.02
    assert not any(state[key].any() for key in ("blocks.3.convolution.bias", "output.0.bias"))


def test_too_few_frames_are_told() -> None:
    with pytest.raises(EmocacheError, match=r"4 blocks leave nothing of 330 frames of 512 dimensions; set head.frames"):
        build_head(CNN2DSettings(frames=330), Shape({"frames": 512}, 6))
    build_head(CNN2DSettings(frames=331), Shape({"frames": 512}, 6))


def test_every_block_has_a_kernel() -> None:
    with pytest.raises(ValueError, match="channels names 1 blocks and kernels 4"):
        CNN2DSettings(channels=(4,))
