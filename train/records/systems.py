"""The rows of the papers' tables: the experiments that train each, and in what these differ from the paper."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SYSTEMS = Path(__file__).parents[1] / "experiments" / "systems.toml"

PAPERS = {
    1: "Cross Culture Emotion Recognition (CATS-Transformer, SEWA)",
    2: "Effect of Attention and Self-Supervised Speech Embeddings on Non-Semantic Speech Tasks (Emotion Share)",
    3: "Attention-based Multimodal Speech Emotion Recognition (Self-MHA and Cross-MHA, IEMOCAP)",
    4: "Exploring Multilingual Unseen Speaker Emotion Recognition (CAMuLeNet)",
    5: "Multimodal Speech Emotion Recognition using Cross Attention with Aligned Audio and Text (CAN, IEMOCAP)",
    6: "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark (a benchmark)",
    7: "MSP-Podcast, the challenges of Odyssey 2024 and Interspeech 2025 (a benchmark)",
}


class Row(BaseModel):
    """A row of a paper's table, or a figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Annotated[int, Field(ge=1)]  # of the list of systems that must work
    paper: Annotated[int, Field(ge=1, le=len(PAPERS))]
    row: str  # its name in the paper
    table: str  # "Table 2", "Figure 3"
    experiments: tuple[str, ...] = ()
    test: Annotated[str, Field(min_length=1)]  # path of the test below the repository
    published: str = ""  # of what has no numbers in published/, such as a figure
    status: Literal["", "evaluate"] = ""  # evaluate: made from stored predictions, no training of its own
    note: str = ""
    deviations: tuple[str, ...] = ()  # in what the experiments differ from the paper, a sentence each


class Variant(BaseModel):
    """Experiments of rows once more, under another protocol: their names have a prefix, and go on as the row's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    of: str  # the prefix of the rows' own experiments
    note: str


class Systems(BaseModel):
    """systems.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: tuple[Row, ...]
    variant: tuple[Variant, ...] = ()  # of prefixes that go on one another, the longer one first
    beyond: tuple[str, ...] = ()  # experiments that stand for no row of a paper
    deviations: dict[str, str] = {}  # sentences by the names that rows of the file list, so that each is written once

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, raw: dict[str, Any]) -> dict[str, Any]:
        known = raw.get("deviations", {})
        named = {name for row in raw["row"] for name in row.get("deviations", ())}
        if named != set(known):
            raise ValueError(
                f"rows list the deviations {sorted(named - set(known))} that [deviations] lacks,"
                f" and none lists {sorted(set(known) - named)}; add the former and remove the latter"
            )
        told = [
            {**row, "deviations": [known[name] for name in row["deviations"]]} if "deviations" in row else row
            for row in raw["row"]
        ]
        return {**raw, "row": told}

    def varied(self, experiment: str) -> str:
        """Return the experiment that this one is a variant of; its own name where it is none."""
        for variant in self.variant:
            if experiment.startswith(variant.prefix):
                return variant.of + experiment.removeprefix(variant.prefix)
        return experiment

    @property
    def mentioned(self) -> set[str]:
        """All experiments that are named."""
        return {name for row in self.row for name in row.experiments} | set(self.beyond)


@cache
def read_systems() -> Systems:
    """Read systems.toml; pydantic's ValidationError where a row is malformed."""
    return Systems.model_validate(tomllib.loads(SYSTEMS.read_text(encoding="utf-8")))
