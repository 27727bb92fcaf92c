"""The options of an extraction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ....cache import Manifest
from ...goals.passes import Pass, pass_of_flags
from ..stream_targets import Expected


@dataclass(frozen=True)
class Options:
    """The options of `emocache extract`; see its help."""

    corpus: str
    data: Path
    cache: str
    encoders: tuple[str, ...]
    alias: str | None = None
    layers: str = "last"
    checkpoints: Path | None = None
    pca: int | None = None
    fit_on: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    text_from: str | None = None
    words_from: str | None = None
    fps: float | None = None
    detector: str = "dlib"
    detect_every: int = 1
    backend: str = "zarr"
    dtype: str | None = None  # None: as each encoder needs
    precision: str = "float32"
    device: str = "auto"
    workers: int | None = None  # None: as many as there are cores
    shard: tuple[int, int] = (1, 1)
    limit: int | None = None
    retry_failed: bool = False
    rehash: bool = False
    single_writer: bool = False
    offline: bool = False
    ray_device: str | None = None  # that Ray's workers run models on: auto, cpu or cuda; None: no workers
    goals: Pass | None = None  # in place of encoders, layers, pca, fit_on and alias
    manifest: Manifest | None = None  # in place of the corpus that `corpus` names
    only: frozenset[str] | None = None  # ids of the utterances that are wanted; None: all
    expected: Mapping[str, Expected] = field(default_factory=dict)  # of streams, by name

    def asked(self) -> Pass:
        """Return the encoders, layers and projections that are asked for."""
        if self.goals is not None:
            return self.goals
        return pass_of_flags(self.encoders, self.layers, self.pca, self.fit_on or "all", self.alias)
