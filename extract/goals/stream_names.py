"""From the name of a stream to what it is made of."""

import re
from dataclasses import dataclass

_STREAM = re.compile(
    r"(?P<encoder>.+?)(\.from-(?P<source>.+?)(?P<translation>-translation)?)?(\.L(?P<layer>\d+))?(\.pca(?P<pca>\d+))?"
)


@dataclass(frozen=True)
class StreamName:
    """The parts of a stream's name, `<encoder>[.from-<source>[-translation]][.L<layer>][.pca<N>]`.

    Attributes:
        encoder: its name.
        transcript: the encoder of the stream that its texts are from; None where they are the corpus's own.
        translation: the texts are the English ones.
        layer: None for the last, or where there are none.
        pca: components of a projection; None where there is none.
    """

    encoder: str
    transcript: str | None = None
    translation: bool = False
    layer: int | None = None
    pca: int | None = None

    @property
    def encoders(self) -> list[str]:
        """The encoders that must run for it, the one that others rest on first."""
        return [name for name in (self.transcript, self.encoder) if name is not None]


def parse_stream(name: str) -> StreamName:
    """Take a stream's name apart.

    >>> parse_stream("distilbert-base-cls.from-whisper-large-v3-15s-translation").encoders
    ['transcript-whisper-large-v3-15s', 'distilbert-base-cls']
    """
    found = _STREAM.fullmatch(name.partition("@")[0])
    if found is None:
        return StreamName(name)
    source, layer, pca = found["source"], found["layer"], found["pca"]
    return StreamName(
        found["encoder"],
        None if source is None else f"transcript-{source}",
        found["translation"] is not None,
        None if layer is None else int(layer),
        None if pca is None else int(pca),
    )
