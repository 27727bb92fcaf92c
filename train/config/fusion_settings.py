"""The settings of an experiment that fuses the stored predictions of others."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .sections import KEPT_FOR, Names, Reports, Table


class FusionTable(Table):
    """The settings `[fusion]`: experiments whose predictions become one."""

    members: Annotated[Names, Field(min_length=2)]  # experiments with a head
    rule: Literal["average", "weighted", "vote"] = "average"  # vote: the class most members name
    weights: Literal["validation"] | tuple[Annotated[float, Field(ge=0)], ...] | None = None  # in the order of members
    over_seeds: bool = False  # a member is the mean over its seeds; one run a fold

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.members)) < len(self.members):
            raise ValueError("members names an experiment twice; name each once")
        if (self.rule == "weighted") != (self.weights is not None):
            raise ValueError(
                'rule = "weighted" needs weights, one for each member or "validation"; other rules have none'
            )
        if isinstance(self.weights, tuple) and (len(self.weights) != len(self.members) or not sum(self.weights)):
            raise ValueError(f"weights: {len(self.members)} members need as many weights, not all of them 0")
        return self


class FusionSettings(Table):
    """An experiment that fuses others; read it with `loading.load_experiment`."""

    description: str = ""
    report: Reports = ()  # see `settings.Settings`
    fusion: FusionTable

    @model_validator(mode="after")
    def _stores_predictions_only(self) -> Self:
        if made := [report for report in self.report if report in KEPT_FOR]:
            raise ValueError(f"report {made[0]!r} is made of what a head keeps, and a fusion stores predictions only;"
                             " set it in the files of the members")  # fmt: skip
        return self
