"""What an experiment can set: the tables of its TOML file, typed and frozen."""

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from .heads.base import HeadSettings

Task = Literal["classification", "regression", "frame_regression"]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Protocol(_Table):
    """`[protocol]`: which utterances train, choose and score."""

    name: Literal["leave_one_speaker_out", "speaker_folds", "random_folds", "official"] = "leave_one_speaker_out"
    folds: Annotated[int, Field(ge=2)] | None = None  # of speaker_folds and random_folds
    group: Literal["speaker", "session"] = "speaker"  # what may not be on two sides of a fold
    assignment: Literal["sorted", "balanced"] = "sorted"  # contiguous in sorted order, or by size and gender
    validation: Literal["next", "fraction"] = "next"  # the next fold, or whole groups drawn from the training part
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    overlap: bool = False  # declares that groups may be shared; random_folds declares it by its name
    seed: Annotated[int, Field(ge=0)] = 0  # of random_folds and of the drawn validation part

    @model_validator(mode="after")
    def _folds_given(self) -> Self:
        counted = self.name in ("speaker_folds", "random_folds")
        if counted and self.folds is None:
            raise ValueError(f"{self.name} needs folds, the number of folds")
        if not counted and self.folds is not None:
            raise ValueError(f"{self.name} decides the number of folds itself; leave folds out")
        return self


class FeatureSettings(_Table):
    """`[features]`: what happens to the frames before the head, fitted on the training part of the fold."""

    average_frames: Annotated[int, Field(ge=1)] = 1  # mean over blocks of this many frames; divides the rate by it
    pca: Annotated[int, Field(ge=1)] | None = None  # components
    normalise: Literal["none", "train", "per_speaker"] = "train"  # per_speaker reads test features: transductive
    fit_scope: Literal["train", "all"] = "train"  # "all" lets fitted things see test features: transductive


class LossSettings(_Table):
    """`[loss]`."""

    kind: Literal["cross_entropy", "mse", "ccc"]
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Training(_Table):
    """`[training]`: the optimisation."""

    optimiser: Literal["adamw", "lbfgs"] = "adamw"  # lbfgs: the whole training part in one batch
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # adamw: decoupled; lbfgs: adds weight_decay / 2 ||W||^2
    batch_size: Annotated[int, Field(ge=1)] = 32
    epochs: Annotated[int, Field(ge=1)] = 100
    patience: Annotated[int, Field(ge=1)] = 10  # epochs without a better validation score
    schedule: Literal["none", "plateau", "cosine"] = "none"  # plateau: halved after patience / 3 epochs
    clip_norm: Annotated[float, Field(gt=0)] | None = None


class Selection(_Table):
    """`[selection]`: how the epoch and the searched settings are chosen, on validation, in each fold and seed."""

    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "ccc", "rmse", "loss"]
    refit: bool = False  # train again on training + validation with what was chosen, for as many epochs


class Settings(_Table):
    """A whole experiment; read it with `reading.load_settings`."""

    description: str = ""
    streams: Annotated[Names, Field(min_length=1)]
    task: Task = "classification"
    targets: Annotated[Names, Field(min_length=1)]  # label columns; tracks for frame_regression
    labels: dict[str, Names] = Field(default_factory=dict)  # class -> labels that mean it; others are dropped
    label_delay_s: Annotated[float, Field(ge=0)] = 0.0  # seconds the annotators lag behind the signal
    missing: Literal["prior", "intersect", "error"] = "prior"  # test utterances without features
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    protocol: Protocol = Protocol()
    features: FeatureSettings = FeatureSettings()
    head: SerializeAsAny[HeadSettings]
    loss: LossSettings
    training: Training = Training()
    selection: Selection
    search: dict[str, tuple[Any, ...]] = Field(default_factory=dict)  # dotted setting -> values to choose from

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        for setting, values in self.search.items():
            if setting.partition(".")[0] not in ("streams", "features", "head", "loss", "training"):
                raise ValueError(f"{setting!r} cannot be searched: it would change what is scored")
            if setting in ("features.normalise", "features.fit_scope"):
                raise ValueError(f"{setting!r} cannot be searched: it decides what may see test features")
            if not values:
                raise ValueError(f"search.{setting} lists no value")
        return self

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        classification = self.task == "classification"
        if classification != (self.loss.kind == "cross_entropy"):
            raise ValueError(f"loss.kind {self.loss.kind!r} does not fit task {self.task!r}")
        if self.selection.metric != "loss" and classification == (self.selection.metric in ("ccc", "rmse")):
            raise ValueError(f"selection.metric {self.selection.metric!r} does not fit task {self.task!r}")
        if classification and len(self.targets) != 1:
            raise ValueError("classification takes one target")
        if self.labels and not classification:
            raise ValueError("labels map classes; they do not fit a regression")
        members = Counter(label for labels in self.labels.values() for label in set(labels))
        if twice := [label for label, count in members.items() if count > 1]:
            raise ValueError(f"labels: {twice[0]!r} belongs to several classes")
        if self.label_delay_s and self.task != "frame_regression":
            raise ValueError("label_delay_s shifts time-stamped labels; it needs task 'frame_regression'")
        if self.loss.kind == "ccc" and self.training.batch_size < 8:
            raise ValueError("training.batch_size must be at least 8 for the CCC loss, which is estimated in each step")
        return self

    @property
    def per_frame(self) -> bool:
        """Whether the head gives one output a frame."""
        return self.task == "frame_regression"
