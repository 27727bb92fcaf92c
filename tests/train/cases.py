"""The heads under test, one entry a variant; `test_heads` holds each of them to what every head promises."""

from typing import NamedTuple


class Case(NamedTuple):
    """One variant of a head, on small synthetic streams.

    Attributes:
        streams: {role: stream}. The streams of `Toy.streams`: "toy" (8 channels at 20 Hz), "slow" (5 channels at 10
            Hz), "vector" (one frame of 6 channels), "words" (4 channels, a frame a word, with the words' times), and
            "picture" (24 channels at 20 Hz).
        changes: `dotted.key=value` settings, the head among them.
        target: "emotion" (three classes), "valence" (a track), or "intensity" (a number).
    """

    name: str
    changes: tuple[str, ...]
    streams: dict[str, str] = {"frames": "toy"}  # noqa: RUF012
    target: str = "emotion"


_CELLS = [
    ("rnn", "false", "last"),
    ("rnn", "true", "mean"),
    ("lstm", "false", "attention"),
    ("lstm", "true", "last"),
    ("gru", "false", "mean_std"),
    ("gru", "true", "attention"),
    ("gru", "true", "attentive_statistics"),
]
_POOLINGS = ("mean", "last", "attention", "attentive_statistics")
_TRANSFORMER = ("head.kind=transformer", "head.width=8", "head.heads=2", "head.dropout=0.0")
_MLP = ("head.kind=mlp", "head.hidden=[8]")


def _recurrent(cell: str, both: str, *more: str) -> tuple[str, ...]:
    return ("head.kind=recurrent", f"head.cell={cell}", f"head.bidirectional={both}", "head.hidden=6", *more)


BASIC = [
    *(Case(f"probe-{p}", ("head.kind=probe", f"head.pooling={p}")) for p in ("mean", "mean_std", "mean_std_delta")),
    *(Case(f"{cell}-{both}-{p}", _recurrent(cell, both, f"head.pooling={p}")) for cell, both, p in _CELLS),
    Case("gru-two-layers", ("head.kind=recurrent", "head.hidden=6", "head.layers=2")),
    *(Case(f"transformer-{p}", (*_TRANSFORMER, f"head.pooling={p}")) for p in _POOLINGS),
    # A frame's valence, interpolated twice, is not quite linear in the frame: 5 % of its variance remain.
    Case("probe-frames", ("head.kind=probe", "targets_scale=none"), target="valence"),
    Case("rnn-frames", _recurrent("rnn", "true"), target="valence"),
    Case("gru-frames", _recurrent("gru", "true"), target="valence"),
    Case("transformer-frames", _TRANSFORMER, target="valence"),
    Case("mlp-vector", ("head.kind=mlp", "head.pooling=mean_std_delta", "head.hidden=[8, 8]", "head.layer_norm=true")),
    Case("mlp-frames-and-vector", (*_MLP, "head.layer_norm_input=true", "head.frame=[8]")),
    Case("mlp-attentive", (*_MLP, "head.pooling=attentive_statistics", "head.pooled_dropout=0.1")),
    Case("mlp-linear", ("head.kind=mlp", "head.frame=[8]", "head.frame_activation=linear", "head.hidden=[]")),
    Case("mlp-frames", (*_MLP, "head.frame=[8]"), target="valence"),
    Case("probe-intensity", ("head.kind=probe",), target="intensity"),
]
