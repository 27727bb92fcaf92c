"""CAN and what it is compared with, against loops over single words and frames."""

import math
from typing import Any

import pytest
import torch

from emocache.train.heads import Frames, Head, HeadSettings, Shape, build_head
from emocache.train.heads.can import CAN, CANSettings
from emocache.train.heads.head import Outputs, as_outputs
from emocache.train.heads.word_attention import GlobalAttentionSettings, MHA2Settings, XuSettings

CLASSES = 3
DIMS = {"text": 4, "audio": 5}
PIECES = (  # of each utterance; they overlap, one is a single frame
    ((0, 4), (3, 7), (7, 8), (6, 13)),
    ((0, 2), (1, 9)),
    ((0, 3),),
)
LENGTHS = (13, 9, 3)  # frames of the audio


def steps(cell: torch.nn.LSTM | torch.nn.GRU, frames: torch.Tensor) -> torch.Tensor:
    """States (T, 2 H) of a bidirectional LSTM or GRU, one frame after the other, from their equations."""
    both = []
    for suffix, order in (("", range(len(frames))), ("_reverse", range(len(frames) - 1, -1, -1))):
        w_x, w_h, b_x, b_h = (
            getattr(cell, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, c = torch.zeros(cell.hidden_size), torch.zeros(cell.hidden_size)
        states: dict[int, torch.Tensor] = {}
        for t in order:
            x_gates, h_gates = w_x @ frames[t] + b_x, w_h @ h + b_h
            if isinstance(cell, torch.nn.LSTM):
                i, f, g, o = (x_gates + h_gates).chunk(4)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                (r_x, z_x, n_x), (r_h, z_h, n_h) = x_gates.chunk(3), h_gates.chunk(3)
                n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
                z = torch.sigmoid(z_x + z_h)
                h = (1 - z) * n + z * h
            states[t] = h
        both.append(torch.stack([states[t] for t in range(len(frames))]))
    return torch.cat(both, dim=1)


def weights_of(scores: list[torch.Tensor]) -> list[torch.Tensor]:
    """Softmax of a list of numbers."""
    exponentials = [torch.exp(score) for score in scores]
    return [one / torch.stack(exponentials).sum() for one in exponentials]


def weighted(weights: list[torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """The sum of states by their weights."""
    return torch.stack([w * h for w, h in zip(weights, states, strict=True)]).sum(dim=0)


def utterances(seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Words (L, D) and frames (T, D') of each utterance."""
    torch.manual_seed(seed)
    return [
        (torch.randn(len(pieces), DIMS["text"]), torch.randn(length, DIMS["audio"]))
        for pieces, length in zip(PIECES, LENGTHS, strict=True)
    ]


def batch(values: list[torch.Tensor], pieces: Any = None, padding: float = 7.0) -> Frames:
    """Utterances padded to the longest, with anything under the mask."""
    mask = torch.arange(max(map(len, values))) < torch.tensor([len(v) for v in values]).unsqueeze(1)
    padded = torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=padding)
    bounds = None
    if pieces is not None:
        bounds = torch.nn.utils.rnn.pad_sequence([torch.tensor(one).view(-1, 2) for one in pieces], batch_first=True)
    return Frames(padded, mask, bounds)


def built(settings: HeadSettings, dims: dict[str, int] = DIMS, seed: int = 0) -> Any:
    """A head in evaluation mode with weights that are not small."""
    torch.manual_seed(seed)
    head: Head = build_head(settings, Shape(dims, CLASSES)).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return head


def run(head: Head, said: list[tuple[torch.Tensor, torch.Tensor]]) -> Outputs:
    """Give two inputs to a head."""
    return as_outputs(head(batch([w for w, _ in said]), batch([a for _, a in said], PIECES)))


def contexts(head: CAN, words: torch.Tensor, audio: torch.Tensor, pieces: Any, longest: int) -> dict[str, Any]:
    """Weights and the four contexts of one utterance, head by head: equations 1 to 9."""
    s = head.settings
    h = {"T": steps(head.words, words)}
    vectors = []
    for first, stop in pieces:
        piece = audio[first:stop]
        if s.segment_pool == "all":
            piece = torch.cat([piece, torch.zeros(longest - len(piece), piece.shape[1])])
        vectors.append(torch.stack(list(steps(head.frames, piece))).mean(dim=0))
    h["A"] = steps(head.pieces, torch.stack(vectors))
    found: dict[str, Any] = {name: [] for name in ("TT", "TA", "AA", "AT")}
    weights = []
    for x, query in (("T", head.text_query), ("A", head.audio_query)):
        for k in range(s.heads):
            width = 2 * s.hidden // s.heads
            own = slice(k * width, (k + 1) * width) if s.head_split == "split" else slice(None)
            alpha = weights_of([query[k] @ state[own] for state in h[x]])
            weights.append(torch.stack(alpha))
            for y in ("T", "A"):
                stopped = s.stop_gradient and x != y
                used = [a.detach() for a in alpha] if stopped else alpha
                found[x + y].append(weighted(used, h[y][:, own]))
    return {name: torch.cat(parts) for name, parts in found.items()} | {"weights": torch.stack(weights, dim=1)}


def outputs(head: CAN, found: dict[str, Any]) -> list[torch.Tensor]:
    """Logits of y, and of y_T and y_A where they vote: equations 10 to 12."""
    names = ("TT", "TA", "AA", "AT") if head.settings.cross else ("TT", "AA")
    joint = head.output.weight @ torch.cat([found[name] for name in names]) + head.output.bias
    if head.text_output is None or head.audio_output is None:
        return [joint]
    return [
        joint,
        head.text_output.weight @ found["TT"] + head.text_output.bias,
        head.audio_output.weight @ found["AA"] + head.audio_output.bias,
    ]


CAN_VARIANTS = [
    {"head_split": split, "segment_pool": pool, "cross": cross, "alpha": alpha}
    for split in ("split", "multi_query")
    for pool in ("valid", "all")
    for cross in (True, False)
    for alpha in (0.0, 0.1)
]


@pytest.mark.parametrize("variant", CAN_VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_can_is_its_equations(variant: dict[str, Any]) -> None:
    head, said = built(CANSettings(hidden=4, heads=2, **variant)), utterances()
    made = run(head, said)
    longest = max(stop - first for pieces in PIECES for first, stop in pieces)
    for at, ((words, audio), pieces) in enumerate(zip(said, PIECES, strict=True)):
        found = contexts(head, words, audio, pieces, longest)
        logits = outputs(head, found)
        product = torch.ones(CLASSES)
        for one, power in zip(logits, (1.0, head.settings.alpha, head.settings.alpha), strict=False):
            product = product * torch.softmax(one, dim=0) ** power  # equation 15
        assert (made.prediction[at].exp() - product).abs().max() < 1e-5
        assert [term.weight for term in made.terms] == [1.0, 0.1, 0.1][: len(logits)]
        for term, one in zip(made.terms, logits, strict=True):
            assert (term.output[at] - one).abs().max() < 1e-5
        kept = made.kept["attention"][at]
        assert kept.shape == (4, 2 * 2) and (kept[len(words) :] == 0).all()
        assert (kept[: len(words)] - found["weights"]).abs().max() < 1e-5


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_gradients_of_can_are_those_of_its_equations(stop_gradient: bool) -> None:
    head, said = built(CANSettings(hidden=4, heads=2, stop_gradient=stop_gradient)), utterances()
    sum(term.weight * term.output.pow(2).sum() for term in run(head, said).terms).backward()  # type: ignore[union-attr]
    given = {name: parameter.grad.clone() for name, parameter in head.named_parameters()}
    head.zero_grad()
    for (words, audio), pieces in zip(said, PIECES, strict=True):
        logits = outputs(head, contexts(head, words, audio, pieces, 0))
        sum(w * one.pow(2).sum() for w, one in zip((1.0, 0.1, 0.1), logits, strict=True)).backward()  # type: ignore[union-attr]
    for name, parameter in head.named_parameters():
        assert torch.allclose(given[name], parameter.grad, atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize(("context", "query", "encoder"), [(1, "text_query", "pieces"), (3, "audio_query", "words")])
def test_the_stop_gradient_cuts_the_weights_and_nothing_else(context: int, query: str, encoder: str) -> None:
    """A loss that reads one crossed context only reaches the states that are added up, and not what weighs them."""
    for stopped in (True, False):
        head, said = built(CANSettings(hidden=4, heads=2, stop_gradient=stopped)), utterances()
        with torch.no_grad():
            read = torch.zeros(CLASSES, 4, 8)
            read[:, context] = 1.0
            head.output.weight.mul_(read.flatten(1))
        run(head, said).terms[0].output.pow(2).sum().backward()  # type: ignore[no-untyped-call]
        weighing = {"text_query": "words", "audio_query": "pieces"}[query]
        asked = [getattr(head, query).grad, getattr(head, weighing).weight_ih_l0.grad]
        assert [grad is None or bool((grad == 0).all()) for grad in asked] == [stopped, stopped]
        assert getattr(head, encoder).weight_ih_l0.grad.abs().max() > 1e-3


def test_sizes_of_the_published_can() -> None:
    def parts(**changes: Any) -> dict[str, tuple[int, ...]]:
        head = CAN(CANSettings(**changes), Shape({"text": 300, "audio": 40}, 7))
        return {name: tuple(p.shape) for name, p in head.named_parameters()}

    usual = parts()
    assert [usual[f"{name}.weight"][1] for name in ("output", "text_output", "audio_output")] == [1024, 256, 256]
    assert usual["text_query"] == (4, 64)
    recurrent = [2 * 4 * 128 * (dim + 128 + 2) for dim in (300, 40, 256)]
    assert sum(map(math.prod, usual.values())) == sum(recurrent) + 2 * 256 + 7 * (1024 + 2 * 256) + 3 * 7
    assert parts(head_split="multi_query")["output.weight"] == (7, 4096)
    without = parts(cross=False, alpha=0.0)
    assert without["output.weight"] == (7, 512) and "text_output.weight" not in without


def test_without_audio_only_the_context_of_the_text_is_left() -> None:
    head, said = built(CANSettings(hidden=4, heads=2)), utterances()
    text = batch([words for words, _ in said])
    silent = Frames(
        torch.full((3, 1, 5), 7.0), torch.zeros(3, 1, dtype=torch.bool), torch.zeros(3, 1, 2, dtype=torch.int64)
    )
    made = as_outputs(head(text, silent))
    found = contexts(head, said[0][0], said[0][1], PIECES[0], 0)
    found |= {name: torch.zeros(8) for name in ("TA", "AA", "AT")}
    for term, logits in zip(made.terms, outputs(head, found), strict=True):
        assert (term.output[0] - logits).abs().max() < 1e-5


def test_global_attention_is_its_equations() -> None:
    head = built(GlobalAttentionSettings(hidden=4), {"frames": DIMS["audio"]})
    said = [audio for _, audio in utterances()]
    made = as_outputs(head(batch(said)))
    for at, audio in enumerate(said):
        states = steps(head.encoder, audio)
        alpha = weights_of([head.score.weight[0] @ h for h in states])
        naive = head.output.weight @ weighted(alpha, states) + head.output.bias
        assert (made.prediction[at] - naive).abs().max() < 1e-5
        assert (made.kept["attention"][at, : len(audio), 0] - torch.stack(alpha)).abs().max() < 1e-5


def test_mha2_is_its_equations() -> None:
    head, said = built(MHA2Settings(hidden=4)), utterances()
    made = run(head, said)
    for at, (words, audio) in enumerate(said):
        h_text, h_audio = steps(head.text, words), steps(head.audio, audio)
        query = torch.cat([h_audio[-1, :4], h_audio[0, 4:]])  # where each direction ends
        alpha = weights_of([query @ h for h in h_text])
        first = weighted(alpha, h_text)
        second = weighted(weights_of([first @ h for h in h_audio]), h_audio)
        naive = head.output.weight @ torch.cat([first, second]) + head.output.bias
        assert (made.prediction[at] - naive).abs().max() < 1e-5
        assert (made.kept["attention"][at, : len(words), 0] - torch.stack(alpha)).abs().max() < 1e-5


def dot_mha(attention: torch.nn.MultiheadAttention, word: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
    """Multi-head attention of one query, head by head (Vaswani et al. 2017, section 3.2.2)."""
    width, heads = len(word), attention.num_heads
    own = width // heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    q = weight[:width] @ word + bias[:width]
    k = [weight[width : 2 * width] @ s + bias[width : 2 * width] for s in sound]
    v = torch.stack([weight[2 * width :] @ s + bias[2 * width :] for s in sound])
    found = []
    for at in range(heads):
        part = slice(at * own, (at + 1) * own)
        alpha = weights_of([q[part] @ key[part] / math.sqrt(own) for key in k])
        found.append(weighted(alpha, v[:, part]))
    return torch.as_tensor(attention.out_proj(torch.cat(found)))


@pytest.mark.parametrize("score", ["dot_mha", "additive"])
def test_xu_is_its_equations(score: Any) -> None:
    head, said = built(XuSettings(hidden=4, dense=7, heads=2, score=score)), utterances()
    made = run(head, said).prediction
    for at, (words, audio) in enumerate(said):
        dense = [torch.clamp(head.dense.weight @ x + head.dense.bias, min=0) for x in audio]
        h_audio, h_text = steps(head.audio, torch.stack(dense)), steps(head.text, words)
        aligned = []
        for h in h_text:
            if score == "dot_mha":
                aligned.append(dot_mha(head.align.attention, h, h_audio))
            else:
                u, v, b = head.align.of_sound.weight[0], head.align.of_word.weight[0], head.align.of_word.bias[0]
                aligned.append(weighted(weights_of([torch.tanh(u @ s + v @ h + b) for s in h_audio]), h_audio))
        states = steps(head.joint, torch.cat([torch.stack(aligned), h_text], dim=1))
        pooling = head.pooling.attention
        alpha = weights_of([pooling.score.weight[0] @ torch.tanh(pooling.hidden(h)) for h in states])
        naive = head.output.weight @ weighted(alpha, states) + head.output.bias
        assert (made[at] - naive).abs().max() < 1e-5


@pytest.mark.parametrize("settings", [CANSettings, XuSettings])
def test_heads_must_divide_the_channels(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"2 x hidden = 20 channels cannot be split over heads = 7"):
        settings(hidden=10, heads=7)
