"""The settings of a whole experiment; the single tables are in `sections`."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from ..heads.head import HeadSettings
from .registries import LOSS_KINDS, NUMBERS
from .sections import (
    KEPT_FOR,
    AllFeatures,
    Augmentation,
    ExtractSettings,
    FeatureSettings,
    LossSettings,
    Names,
    Protocol,
    Reports,
    Selection,
    Table,
    Training,
)

__all__ = ["LOSSES", "NUMBERS", "SINGLE", "Settings", "Task"]

Task = Literal["classification", "regression", "frame_regression", "distribution"]

LOSSES: dict[str, tuple[str, ...]] = {
    task: tuple(name for name, kind in LOSS_KINDS.items() if task in kind.tasks) for task in get_args(Task)
}
"""The losses that fit each task, the default first."""


_SEES_TEST = ("normalise", "fit_scope", "enrolment", "enrolment_where")

SINGLE = "frames"
"""The role of the only input of a head with one."""


def _by_role(value: Any) -> Any:
    """A name or a list of names is the only input; a table names each role's."""
    return value if isinstance(value, Mapping) else {SINGLE: value}


class Settings(Table):
    """A whole experiment; read it with `loading.load_settings`."""

    description: str = ""
    report: Reports = ()  # papers whose tables evaluation makes of the runs
    streams: Annotated[dict[str, Names], BeforeValidator(_by_role)]  # role -> streams, side by side in each frame
    modalities: Literal["all", "any"] = "all"  # streams an utterance must have; heads take an absent one as zeros
    masking: Literal["proper", "none"] = "proper"  # none: padding counts as frames, as in some papers' code
    task: Task = "classification"
    targets: Annotated[Names, Field(min_length=1)]  # label columns; tracks for frame_regression
    targets_apart: bool = False  # a head of its own for each target
    # Numbers: standardised on the training part (the default), or as they are, with the output's bias at their mean.
    # Classes, shares and what a bounded head learns are always taken as they are: None.
    targets_scale: Literal["train", "none"] | None = None
    threshold: Literal["median", "mean", "zero"] | None = None  # classification of numbers: high above it, or low
    auxiliary: str | None = None  # label column that a multi-task head learns as well
    vote: str | None = None  # label column naming what several rows are parts of: their mean is scored
    labels: dict[str, Names] = Field(default_factory=dict)  # class -> labels that mean it; others are dropped
    label_delay_s: Annotated[float, Field(ge=0)] = 0.0  # seconds the annotators lag behind the signal
    missing: Literal["prior", "intersect", "error"] = "prior"  # test utterances without features
    corpora: Names = ()  # what the experiment is for, as `emocache corpora` calls them; none: any
    encoders: dict[str, str] = Field(default_factory=dict)  # short name -> org/name[@revision] on the model hub
    extract: ExtractSettings = ExtractSettings()
    keep: Names = ()  # what a head gives beside its outputs, stored for figures: "gate", "attention", "embedding"
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    protocol: Protocol = Protocol()
    features: AllFeatures = AllFeatures()
    head: SerializeAsAny[HeadSettings]
    loss: LossSettings
    training: Training = Training()
    augment: Augmentation = Augmentation()
    selection: Selection
    search: dict[str, tuple[Any, ...]] = Field(default_factory=dict)  # dotted setting -> values to choose from

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        for setting, values in self.search.items():
            table = setting.partition(".")[0]
            if table not in ("streams", "features", "head", "loss", "training", "augment"):
                raise ValueError(f"{setting!r} cannot be searched: it would change what is scored")
            if setting == table != "streams" or any(isinstance(v, Mapping) for v in values if table != "streams"):
                raise ValueError(f"{setting!r} is a table and cannot be searched; name one of its settings")
            # Points are compared by their validation scores, which must be of the same utterances.
            if table == "streams" and self.modalities == "any":
                raise ValueError("'streams' cannot be searched with modalities = 'any': some of the streams that are"
                                 " tried would lack utterances that others have")  # fmt: skip
            if table == "features" and setting.rpartition(".")[2] in _SEES_TEST:
                raise ValueError(f"{setting!r} cannot be searched: it decides what may see test features")
            if not values:
                raise ValueError(f"search.{setting} lists no value")
        return self

    @model_validator(mode="after")
    def _fits_head(self) -> Self:
        wanted, found = self.head.roles(), tuple(self.streams)
        for role, names in self.streams.items():
            if not names or len(set(names)) < len(names):
                raise ValueError(f"streams of {role!r} are {list(names)}; name at least one, and each once")
        if sorted(wanted) != sorted(found):
            how = "streams = [...]" if wanted == (SINGLE,) else f"[streams] with {' = ..., '.join(wanted)} = ..."
            raise ValueError(
                f"head {self.head.kind!r} takes {', '.join(wanted)}; the streams are for {', '.join(found)}; set {how}"
            )
        if unknown := sorted(set(self.features.roles) - set(wanted)):
            known = [name for name in type(self.features).model_fields if name != "roles"]
            raise ValueError(
                f"features.{unknown[0]} is neither a setting ({', '.join(known)}) nor an input of head"
                f" {self.head.kind!r} ({', '.join(wanted)})"
            )
        if "emotion_share" in self.report and self.head.kind != "emotion_share":
            raise ValueError(f"report 'emotion_share' has the two architectures of head 'emotion_share', and this is"
                             f" head {self.head.kind!r}; set report = []")  # fmt: skip
        for report, kept in KEPT_FOR.items():
            if report in self.report and kept not in self.keep:
                raise ValueError(f"report {report!r} is made of what keep = [{kept!r}] stores; set that too, or take"
                                 f" {report!r} out of report")  # fmt: skip
        if self.task not in self.head.tasks():
            raise ValueError(f"head {self.head.kind!r} does not fit task {self.task!r}; it is for"
                             f" {', '.join(self.head.tasks())}")  # fmt: skip
        if self.targets_scale == "train" and (bounds := self.head.bounds()) is not None:
            raise ValueError(f"targets_scale = 'train' gives targets that head {self.head.kind!r} cannot reach, whose"
                             f" values lie between {bounds[0]:g} and {bounds[1]:g}; leave it out, or choose a"
                             " head.output without bounds")  # fmt: skip
        if (self.auxiliary is not None) != self.head.multitask():
            remedy = "set auxiliary to a label column" if self.head.multitask() else "leave auxiliary out"
            raise ValueError(f"head {self.head.kind!r}: {remedy}")
        return self

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        classification = self.task == "classification"
        if self.loss.kind not in LOSSES[self.task]:
            raise ValueError(f"loss.kind {self.loss.kind!r} does not fit task {self.task!r};"
                             f" it can be {' or '.join(LOSSES[self.task])}")  # fmt: skip
        if not self.loss.entry.weighs_classes and (self.loss.class_weights != "none" or self.loss.label_smoothing):
            name = "label_smoothing" if self.loss.label_smoothing else "class_weights"
            weighing = " or ".join(repr(one) for one, kind in LOSS_KINDS.items() if kind.weighs_classes)
            raise ValueError(f"loss.{name} is for loss.kind {weighing}, not {self.loss.kind!r}; leave it out")
        if self.selection.metric != "loss" and classification != self.selection.of_classes:
            raise ValueError(f"selection.metric {self.selection.metric!r} does not fit task {self.task!r}")
        if classification and len(self.targets) != 1 and not self.targets_apart:
            raise ValueError("classification takes one target")
        if not classification and (self.labels or self.threshold or self.vote):
            name = "labels" if self.labels else "threshold" if self.threshold else "vote"
            raise ValueError(f"{name} is about classes; it does not fit task {self.task!r}")
        if self.targets_scale is not None and self.task not in NUMBERS:
            raise ValueError(f"targets_scale is the unit of numbers; leave it out for task {self.task!r}")
        twice_used = {self.auxiliary, self.vote} & set(self.targets)
        if len(set(self.targets)) < len(self.targets) or twice_used:
            name = next(iter(twice_used), None) or next(t for t in self.targets if self.targets.count(t) > 1)
            raise ValueError(f"{name!r} is named twice among targets, auxiliary and vote; name it once")
        if self.labels and self.threshold:
            raise ValueError("labels map names and threshold divides numbers; leave one out")
        if self.targets_apart and (classification or self.task == "distribution"):
            raise ValueError(f"targets_apart trains a head for each value; it does not fit task {self.task!r}")
        if len(set(self.seeds)) < len(self.seeds):
            twice_named = next(seed for seed in self.seeds if self.seeds.count(seed) > 1)
            raise ValueError(f"seeds names {twice_named} twice; name each once")
        members = Counter(label for labels in self.labels.values() for label in set(labels))
        if twice := [label for label, count in members.items() if count > 1]:
            raise ValueError(f"labels: {twice[0]!r} belongs to several classes")
        if self.label_delay_s and self.task != "frame_regression":
            raise ValueError("label_delay_s shifts time-stamped labels; it needs task 'frame_regression'")
        if self.loss.entry.pooled and self.training.batch_size < 8:
            raise ValueError("training.batch_size must be at least 8 for the CCC loss, which is estimated in each step")
        if self.training.sampling == "balanced" and not classification:
            raise ValueError("training.sampling 'balanced' is about classes; use 'shuffle' or 'replacement'")
        if self.augment.mixup and (self.per_frame or self.auxiliary or len(self.streams) > 1):
            raise ValueError("augment.mixup needs one input and one target an utterance; set it to 0")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        protocol, training = self.protocol, self.training
        # Half of a held-out part shares its groups with the tested half; random folds share them all by declaration.
        halves = protocol.validation == "half" and not protocol.entry.shares_groups
        if self.selection.refit and (protocol.validation == "test" or halves):
            raise ValueError(f"selection.refit would train on the test part's groups, which protocol.validation ="
                             f" {protocol.validation!r} validates on; set it to false")  # fmt: skip
        if self.vote and (protocol.entry.shares_groups or protocol.validation == "random_utterance"):
            raise ValueError(f"vote: parts of one {self.vote} would lie on two sides of a fold; use protocol.name ="
                             " 'group_folds' and another protocol.validation")  # fmt: skip
        words = [role for role in self.streams if self.features.of(role).trainable_words != "none"]
        for role in words:
            how = self.features.of(role)
            if self.head.fixed_pooling(role, self.per_frame) or how.average_frames > 1 or how.grid_hz is not None:
                name = "average_frames" if how.average_frames > 1 else "grid_hz"
                cause = f"head {self.head.kind!r} takes their mean"
                if how.average_frames > 1 or how.grid_hz is not None:
                    cause = f"features.{name} makes other frames of them"
                raise ValueError(f"trainable_words learns a vector for each word of {role!r}, but {cause}; leave one of"
                                 " the two out")  # fmt: skip
        if words and self.augment.active:
            raise ValueError(f"augment changes frames, and the words of {words[0]!r} are looked up by number; leave out"
                             " augment or trainable_words")  # fmt: skip
        if self.keep and self.selection.average > 1:
            raise ValueError("keep stores what one head gives; selection.average trains several: leave one of them out")
        if self.keep and self.targets_apart and len(self.targets) > 1:
            raise ValueError("keep stores what one head gives; targets_apart trains several: train them one by one")
        if training.optimiser != "adamw" and (
            self.augment.active or training.sampling != "shuffle" or training.epoch_share < 1
        ):
            raise ValueError(f"training.optimiser {training.optimiser!r} needs the same batch in every step; leave out"
                             " augment, training.sampling and training.epoch_share, or use 'adamw'")  # fmt: skip
        if training.closed_form:
            self._fits_closed_form()
        self._enrols()
        return self

    def _enrols(self) -> None:
        asked = {(how.enrolment, how.enrolment_where) for how in self._per_speaker}
        if len(asked) > 1:
            raise ValueError("features.enrolment leaves utterances out of the score, for all inputs alike; set it and"
                             " enrolment_where in [features], once for all inputs")  # fmt: skip
        if not asked and any(self.features.of(role).enrolment is not None for role in self.streams):
            raise ValueError("features.enrolment gives the statistics of single speakers; set features.normalise ="
                             " 'per_speaker', or leave it out")  # fmt: skip

    def _fits_closed_form(self) -> None:
        optimiser = self.training.optimiser
        if self.head.kind != "probe" or self.per_frame:
            found = "a probe of frames" if self.head.kind == "probe" else f"head {self.head.kind!r}"
            raise ValueError(f"training.optimiser {optimiser!r} fits a probe of whole utterances, not {found}; use"
                             " 'adamw' or 'lbfgs'")  # fmt: skip
        tasks = ("classification",) if optimiser == "lda" else ("classification", "regression")
        if self.task not in tasks:
            raise ValueError(f"training.optimiser {optimiser!r} is for {' and '.join(tasks)}, not task {self.task!r};"
                             " use 'lbfgs'")  # fmt: skip
        if self.loss.label_smoothing:
            raise ValueError(f"training.optimiser {optimiser!r} knows no loss.label_smoothing; leave it out")
        if any(self.features.of(role).combine == "weighted" for role in self.streams):
            raise ValueError(f"training.optimiser {optimiser!r} cannot learn weights of layers; set features.combine ="
                             " 'concatenate', or use 'lbfgs'")  # fmt: skip

    @property
    def _per_speaker(self) -> list[FeatureSettings]:
        features = [self.features.of(role) for role in self.streams]
        return [how for how in features if how.normalise == "per_speaker"]

    @property
    def enrolment(self) -> tuple[int, str | None] | None:
        """(Number, expression) of the utterances that enrol a speaker; None where none do, as usual."""
        found = next(iter(self._per_speaker), None)
        return None if found is None or found.enrolment is None else (found.enrolment, found.enrolment_where)

    @property
    def per_frame(self) -> bool:
        """Tell whether the head gives one output a frame."""
        return self.task == "frame_regression"

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Every stream of every role, once."""
        return tuple(dict.fromkeys(name for names in self.streams.values() for name in names))
