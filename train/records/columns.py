"""The columns of predictions.parquet and kept.parquet: their names, and where a task's values stand.

A row of predictions.parquet is an utterance of the validation or the test part. Frame-wise tasks have lists of values,
one for each native label stamp.
"""

from dataclasses import dataclass

PART = "part"
"""Text: "valid" or "test"."""
IDENTITY = ("corpus", "id", "speaker", "session", "culture", "gender")
"""Text, from the manifest; null where it says nothing."""
GROUP = "group"
"""Text: what the bootstrap draws, within the corpus."""
MISSING = "missing"
"""Bool: the utterance has no features, and scores as the prior."""
TIMES = "times"
"""Of frame-wise tasks, float64 seconds of the label stamps."""
PRESENT = "present"
"""Of frame-wise tasks, bool: the input has something near the stamp."""

_PROBABILITY = "prob."


def reference(target: str = "") -> str:
    """Name the column of what is true: of a classification's class, or of one target's values (float64)."""
    return f"reference.{target}" if target else "reference"


def prediction(target: str = "") -> str:
    """Name the column of what a head gave: of a classification's class, or of one target's values (float64)."""
    return f"prediction.{target}" if target else "prediction"


def probability(name: str) -> str:
    """Name the column of one class's probability, float64."""
    return _PROBABILITY + name


def class_of(column: str) -> str | None:
    """Return the class that a column has the probability of; None of another column."""
    return column.removeprefix(_PROBABILITY) if column.startswith(_PROBABILITY) else None


def auxiliary_reference(target: str) -> str:
    """Name the column of a second target's true class; null where it is unknown."""
    return f"auxiliary.reference.{target}"


def auxiliary_prediction(target: str) -> str:
    """Name the column of a second target's predicted class; null without features."""
    return f"auxiliary.prediction.{target}"


def shape_of(kept: str) -> str:
    """Name the column of kept.parquet that has the shape of the arrays which the column `kept` has flattened."""
    return f"{kept}.shape"


@dataclass(frozen=True)
class Columns:
    """The columns of a task's values in predictions.parquet: K values a sample."""

    task: str
    names: tuple[str, ...]  # classes, or targets

    @property
    def values(self) -> list[str]:
        """The K columns that are fused."""
        return [probability(name) if self.task == "classification" else prediction(name) for name in self.names]

    @property
    def truth(self) -> list[str]:
        """The columns in which the members of a fusion must agree."""
        if self.task == "classification":
            return [reference()]
        return [*([TIMES] if self.per_frame else []), *map(reference, self.names)]

    @property
    def per_frame(self) -> bool:
        """True where a row holds as many samples as it has label stamps."""
        return self.task == "frame_regression"
