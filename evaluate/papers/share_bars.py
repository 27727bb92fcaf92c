"""Mean correlation of each feature under both architectures (Emotion Share paper, Figure 3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..output.cells import number
from ..output.figures.drawing import COLOURS, save
from ..output.figures.look import SCREEN, Look
from ..scoring.scored import Evaluation
from .emotion_share import Pair, pairs

_ARCHITECTURES = {"mean_arch1": "Architecture 1", "mean_arch2": "Architecture 2"}
_WIDTH = 0.4
_GROUP = 1.1  # inches


def save_share_bars(out: Path, evaluations: Sequence[Evaluation], look: Look = SCREEN) -> list[Path]:
    """Draw the means of all pairs of architectures, whose numbers emotion-share.csv has; returns the files' paths.

    The third average, of each target's better architecture, is no result of a system and is not drawn.
    """
    made = pairs(evaluations)
    return save(draw(made, look), out / "emotion-share", look) if made else []


def draw(made: Sequence[Pair], look: Look = SCREEN) -> Figure:
    """Draw two bars for each pair, and its baseline over them where it has one."""
    figure = Figure(figsize=look.size(max(5.0, _GROUP * len(made) + 1.5), 4.6), layout="constrained")
    axes = figure.add_subplot()
    for k, (column, label) in enumerate(_ARCHITECTURES.items()):
        means = np.array([pair.averages[column] for pair in made])
        texts = [number(mean) for mean in means]
        places = np.arange(len(made)) + (k - 0.5) * _WIDTH
        # A missing mean is a bar of no height, so that its dash has a place.
        drawn: dict[str, Any] = {"color": COLOURS[k], "edgecolor": "white", "label": label, "hatch": "//" if k else ""}
        bars = axes.bar(places, np.nan_to_num(means), _WIDTH, **drawn)
        # On white, as the baseline's line may run through them.
        box = {"facecolor": "white", "linewidth": 0, "pad": 0.5}
        axes.bar_label(bars, texts, fontsize=look.small, padding=2, zorder=4, bbox=box)
    quoted = np.array([pair.baseline for pair in made])
    ends = np.arange(len(made))
    if np.isfinite(quoted).any():
        axes.hlines(quoted, ends - 0.5, ends + 0.5, color="black", linestyle="--", label="baseline (quoted)")
    axes.axhline(0, color="black", linewidth=0.8)
    names = [f"{pair.name} *" if pair.notes else pair.name for pair in made]
    axes.set_xticks(ends, names, rotation=30, ha="right", rotation_mode="anchor", fontsize=look.text, parse_math=False)
    axes.set_ylabel("mean Spearman's ρ over the targets")
    axes.margins(y=0.1)
    figure.legend(loc="outside upper center", ncols=3, fontsize=look.text, frameon=False)
    if any(pair.notes for pair in made):
        figure.supxlabel("* has remarks: see emotion-share.csv", fontsize=look.text)
    return figure
