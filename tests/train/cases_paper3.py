"""The heads of paper 3 under test, see `cases`."""

from .cases import Case

_TWO = {"text": "words", "audio": "toy"}
_CLS = {"text": "vector", "audio": "toy"}
_SMALL = ("head.width=12", "head.heads=3", "head.fc=10", "head.dropout=0.0")
_MHA = ("head.kind=mha", *_SMALL)
_FUSION = ("head.kind=mha_fusion", *_SMALL)
_MDRE = ("head.kind=mdre", "head.hidden=7", "head.audio_width=6", "head.text_width=5")


def _fusion(attention: str, pooling: str) -> tuple[str, ...]:
    return (*_FUSION, f"head.attention={attention}", f"head.statistical_pooling={pooling}")


CASES: list[Case] = [
    Case("mha", _MHA),
    Case("mha-block-relu", (*_MHA, "head.transformer_block=true", "head.activation=relu")),
    Case("mha-fusion-self", _fusion("self", "true"), _TWO),
    Case("mha-fusion-cross", _fusion("cross", "true"), _TWO),
    Case("mha-fusion-self-nosp", _fusion("self", "false"), _TWO),
    Case("mha-fusion-cross-nosp", _fusion("cross", "false"), _TWO),
    Case("mha-fusion-self-cls", _fusion("self", "true"), _CLS),
    Case("mha-fusion-cross-cls", _fusion("cross", "true"), _CLS),
    Case("mha-fusion-cross-block", (*_fusion("cross", "true"), "head.transformer_block=true"), _TWO),
    Case("mha-fusion-intensity", _FUSION, _TWO, target="intensity"),
    Case("mdre", _MDRE, _TWO),
    Case("mdre-sigmoid", (*_MDRE, "head.features=original", "head.prosody=none", "loss.kind=sigmoid"), _TWO),
    Case("mdre-prosody", (*_MDRE, "head.features=original"), {**_TWO, "prosody": "vector"}),
]
