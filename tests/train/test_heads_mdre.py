"""MDRE against a loop over single utterances, and its sizes and first weights."""

from typing import Any

import pytest
import torch

from emocache.train.heads import Frames, Shape
from emocache.train.heads.mdre import MDRE, MDRESettings

SMALL: dict[str, Any] = {"hidden": 7, "audio_width": 6, "text_width": 5}
TEXT, AUDIO, PROSODY = (4, 1, 3, 0, 2), (9, 5, 1, 6, 0), (1, 1, 0, 1, 1)


def frames(lengths: tuple[int, ...], dim: int) -> Frames:
    """Random frames, and large values where the mask is false."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return Frames(torch.randn(*mask.shape, dim).masked_fill(~mask.unsqueeze(-1), 9.0), mask)


def last_state(gru: Any, values: torch.Tensor) -> torch.Tensor:
    """(T, D) to (H,), step by step: Cho et al. 2014 with the reset gate after the product, as torch has it."""
    state = torch.zeros(gru.hidden_size)
    for frame in values:
        given = (gru.weight_ih_l0 @ frame + gru.bias_ih_l0).chunk(3)
        known = (gru.weight_hh_l0 @ state + gru.bias_hh_l0).chunk(3)
        reset, update = (1 / (1 + (-given[k] - known[k]).exp()) for k in (0, 1))
        state = (1 - update) * torch.tanh(given[2] + reset * known[2]) + update * state
    return state


def build(dims: dict[str, int], outputs: int = 3, **settings: Any) -> MDRE:
    torch.manual_seed(0)
    return MDRE(MDRESettings(**settings), Shape(dims, outputs)).eval()


@pytest.mark.parametrize("prosody", [False, True])
@torch.no_grad()
def test_the_head_is_what_the_equations_say(prosody: bool) -> None:
    dims = {"text": 4, "audio": 8, **({"prosody": 6} if prosody else {})}
    head = build(dims, features="original" if prosody else "ssl", **SMALL)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    lengths = {"text": TEXT, "audio": AUDIO, "prosody": PROSODY}
    given = {role: frames(lengths[role], dim) for role, dim in dims.items()}
    found = head(*given.values())
    for row in range(len(TEXT)):
        own = {role: one.values[row, : lengths[role][row]] for role, one in given.items()}
        heard = last_state(head.audio.gru, own["audio"])
        if prosody:
            heard = torch.cat([heard, own["prosody"].sum(dim=0)])
        audio = head.audio_linear.weight @ heard + head.audio_linear.bias
        text = head.text_linear.weight @ last_state(head.text.gru, own["text"]) + head.text_linear.bias
        expected = head.output.weight @ torch.cat([audio, text]) + head.output.bias
        assert (found[row] - expected).abs().max() < 1e-5


def test_sizes_are_those_of_the_paper() -> None:
    def gru(dim: int) -> int:
        return 3 * 200 * (dim + 200) + 2 * 3 * 200

    def size(head: MDRE) -> int:
        return sum(p.numel() for p in head.parameters())

    ssl = build({"text": 1024, "audio": 768}, 7)
    assert size(ssl) == gru(1024) + gru(768) + (200 * 117 + 117) + (200 * 100 + 100) + (217 * 7 + 7)
    original = build({"text": 300, "audio": 39, "prosody": 35}, 4, features="original")
    assert size(original) == gru(300) + gru(39) + (235 * 117 + 117) + (200 * 100 + 100) + (217 * 4 + 4)


def test_first_weights_are_orthogonal_and_uniform() -> None:
    head = build({"text": 300, "audio": 39})
    for name, parameter in head.named_parameters():
        for gate in parameter.chunk(3) if "gru.weight" in name else ():
            product = gate @ gate.T if gate.shape[1] >= gate.shape[0] else gate.T @ gate
            assert (product - torch.eye(len(product))).abs().max() < 1e-5
    for linear in (head.text_linear, head.audio_linear, head.output):
        assert 0.24 < linear.weight.abs().max() <= 0.25 and not linear.bias.any()


def test_dropout_takes_more_of_the_text() -> None:
    head = build({"text": 300, "audio": 39}).train()
    kept = {name: (encoder.dropout(torch.ones(20_000)) > 0).float().mean() for name, encoder in
            (("text", head.text), ("audio", head.audio))}  # fmt: skip
    assert abs(kept["text"] - 0.3) < 0.02 and abs(kept["audio"] - 0.7) < 0.02


def test_prosody_is_an_input_of_the_original_features_only() -> None:
    assert MDRESettings().roles() == ("text", "audio")
    assert MDRESettings(features="original").roles() == ("text", "audio", "prosody")
    assert MDRESettings(features="original", prosody="none").roles() == ("text", "audio")
