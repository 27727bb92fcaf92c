"""The tables of an experiment's TOML file, each typed and frozen. `settings` puts them together."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ..records.metrics import CHOOSING_METRICS, metrics_of
from .registries import LOSS_KINDS, PROTOCOLS, LossKind, ProtocolKind, owners


def _registered(registry: Collection[str]) -> BeforeValidator:
    """Take only names of a registry, with the words that pydantic has for a Literal."""

    def check(name: Any) -> Any:
        if not isinstance(name, str) or name not in registry:
            *most, last = (repr(known) for known in registry)
            # The error that pydantic gives of a Literal, whose names would have to stand here a second time.
            raise ValueError(f"Input should be {', '.join(most)} or {last}")
        return name

    return BeforeValidator(check)


Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Share = Annotated[float, Field(gt=0, lt=1)]
# Papers whose tables and figures evaluation makes of an experiment's runs, beside those of any run.
Reports = Annotated[
    tuple[Literal["emotion_share", "gates", "attention", "embeddings", "enrolment"], ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]
# What `keep` must name for the reports that are made of it.
KEPT_FOR = {"gates": "gate", "attention": "attention", "embeddings": "embedding"}


class Table(BaseModel):
    """A table: unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Protocol(Table):
    """The settings `[protocol]`: which utterances train, choose and score."""

    name: Annotated[str, _registered(PROTOCOLS)] = "leave_one_out"
    folds: Annotated[int, Field(ge=2)] | None = None  # of group_folds and random_folds
    # What may not be on two sides of a fold: a column of the manifest, or "corpus".
    group: Annotated[str, Field(min_length=1)] = "speaker"
    assignment: Literal["sorted", "balanced"] = "sorted"  # contiguous in sorted order, or by size and gender
    stratify: bool = False  # random_folds: every class in the same shares in every fold
    train_on: str | None = None  # transfer: column=value[|value],...; "corpus" is a column too
    test_on: str | None = None  # transfer; official: only these of the owner's test part
    # file: a table of who is in which fold, or a folder of such lists: see `data.lists`.
    file: Annotated[str, Field(min_length=1)] | None = None
    codes: dict[str, Names] = Field(default_factory=dict)  # short names for values, such as C1 = "zh"
    # The next fold; whole groups or single utterances of the training part; all of its groups in turn; half of the
    # held-out fold; or the test part itself, which is a diagnostic and marks the runs.
    validation: Literal["next", "fraction", "random_utterance", "nested", "half", "test"] = "next"
    validation_fraction: Share = 0.2
    validation_folds: Annotated[int, Field(ge=2)] = 5  # nested: parts that validate in turn
    validation_group: str | None = None  # what "fraction" and "nested" keep together; None: `group`
    # What intervals draw: a column. None: the session where it is the group, else the speaker.
    resample: Annotated[str, Field(min_length=1)] | None = None
    overlap: bool = False  # declares that groups may be shared; random_folds declares it by its name
    seed: Annotated[int, Field(ge=0)] = 0  # of random folds and of a drawn validation part

    @model_validator(mode="after")
    def _complete(self) -> Self:
        known = self.entry.settings
        if "folds" in known and self.folds is None:
            raise ValueError(f"{self.name} needs folds, the number of folds")
        if "folds" not in known and self.folds is not None:
            raise ValueError(f"{self.name} decides the number of folds itself; leave folds out")
        if "train_on" in known and None in (self.train_on, self.test_on):
            raise ValueError(f'{self.name} needs train_on and test_on, such as train_on = "culture=C1|C4"')
        for side in ("train_on", "test_on"):
            if side not in known and getattr(self, side) is not None:
                raise ValueError(f"{side} belongs to {' and '.join(owners(side))}, not to {self.name}")
        if "file" in known and self.file is None:
            raise ValueError("name = 'file' needs protocol.file, the path of the fold file")
        if "file" not in known and self.file is not None:
            raise ValueError(f"file belongs to name = {' and '.join(map(repr, owners('file')))}, not to {self.name!r}")
        if self.stratify and "stratify" not in known:
            raise ValueError(f"stratify belongs to {' and '.join(owners('stratify'))}, not to {self.name}")
        return self

    @property
    def entry(self) -> ProtocolKind:
        """The protocol's entry in the registry."""
        return PROTOCOLS[self.name]


class FeatureSettings(Table):
    """The settings `[features]`: what happens to the frames before the head, in the order in which it is done.

    What is fitted is fitted on the training part only. `[features.<role>]` sets the same for one input of a head with
    several.
    """

    where: str | None = None  # use only frames where this stored mask is true, such as face_found
    words: bool = False  # frames of one word become one, their mean; frames without a place in time are dropped
    crop_s: Annotated[float, Field(gt=0)] | None = None  # seconds from the utterance's start that are used
    max_frames: Annotated[int, Field(ge=1)] | None = None  # the first ones
    grid_hz: Annotated[float, Field(gt=0, le=10_000)] | None = None  # bring all streams to this rate by their times
    align: Literal["time", "index"] = (
        "time"  # index: frame i beside frame i whatever their times, zeros after the shorter
    )
    average_frames: Annotated[int, Field(ge=1)] = 1  # mean over blocks of this many frames; divides the rate by it
    combine: Literal["concatenate", "weighted"] = "concatenate"  # weighted: a learned weight a stream (SUPERB)
    trainable_words: Literal["none", "vector", "unk"] = "none"  # learn each training word's vector; for words unseen in
    #   training: their own vector, or one learned for all of them
    pca: Annotated[int, Field(ge=1)] | None = None  # components
    # per_utterance: mean and variance of each utterance (CMVN); l2_over_time: each channel of an utterance has norm 1;
    # per_speaker reads test features: transductive, unless enrolment says of how many utterances
    normalise: Literal["none", "train", "per_speaker", "per_utterance", "l2_over_time"] = "train"
    enrolment: Annotated[int, Field(ge=1)] | None = None  # per_speaker: so many utterances of a speaker who does not
    #   train, drawn by protocol.seed, give the statistics and are not scored; None: all do, and all are scored
    enrolment_where: str | None = None  # column=value[|value],...: only such utterances enrol
    fit_scope: Literal["train", "all"] = "train"  # "all" lets fitted things see test features: transductive

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.align == "index" and self.grid_hz is not None:
            raise ValueError("align = 'index' joins frames by their number; leave grid_hz out")
        if self.enrolment_where is not None and self.enrolment is None:
            raise ValueError("enrolment_where says which utterances enrol; set enrolment, how many of them, too")
        if self.trainable_words != "none" and (self.pca is not None or self.combine == "weighted"):
            raise ValueError("trainable_words takes the vectors as they are; leave pca and combine out")
        if self.trainable_words != "none" and self.normalise != "none":
            raise ValueError("trainable_words takes the vectors as they are; set normalise = 'none' for this input")
        return self


class AllFeatures(FeatureSettings):
    """The `[features]` table with what it sets for single roles."""

    roles: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_roles(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        held = raw.get("roles", {})
        if not isinstance(held, Mapping) or not all(isinstance(values, Mapping) for values in held.values()):
            raise ValueError("roles is no setting; set [features.<input>] for one input of a head")
        # Tables below [features] are inputs; a dump of settings, read again, has them under `roles` already.
        roles = {name: dict(values) for name, values in held.items()}
        plain: dict[str, Any] = {}
        for key, value in raw.items():
            if key != "roles" and isinstance(value, Mapping):
                roles[key] = {**roles.get(key, {}), **value}
            else:
                plain[key] = value
        for name, own in roles.items():
            try:
                # Each input is checked with what is common, since two settings may only contradict each other there.
                FeatureSettings.model_validate({**{k: v for k, v in plain.items() if k != "roles"}, **own})
            except ValidationError as error:
                first = error.errors()[0]
                text = first["msg"].removeprefix("Value error, ")
                raise ValueError(f"{'.'.join([name, *map(str, first['loc'])])}: {text}") from None
        return {**plain, "roles": roles}

    def of(self, role: str) -> FeatureSettings:
        """Return the settings that hold for one role."""
        common = self.model_dump(exclude={"roles"})
        return FeatureSettings.model_validate({**common, **self.roles.get(role, {})})


class LossSettings(Table):
    """The settings `[loss]`."""

    kind: Annotated[str, _registered(LOSS_KINDS)]
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def entry(self) -> LossKind:
        """The loss's entry in the registry."""
        return LOSS_KINDS[self.kind]


class ExtractSettings(Table):
    """The settings `[extract]`: what the names of the streams do not say of how they are made.

    Training does not read them, and no run depends on them: the stream that is there counts.
    """

    fit_on: str = "all"  # utterances that a projection is fitted on: all, or column=value[|value],...
    fps: Annotated[float, Field(ge=0.01, le=1000)] | None = None  # pictures a second at most
    detector: str = "dlib"  # of faces
    detect_every: Annotated[int, Field(ge=1, le=1000)] = 1  # look for faces in every N-th picture
    precision: Literal["float32", "bf16", "fp16"] = "float32"  # of the model
    words_from: str | None = None  # stream with word times, for encoders of text


class Training(Table):
    """`[training]`: the optimisation."""

    # adamw without weight decay is Adam; lbfgs: one batch; ridge and lda fit a probe in closed form
    optimiser: Literal["adamw", "lbfgs", "ridge", "lda"] = "adamw"
    # ridge: alpha, lda: shrinkage, of which groups left out of the training part choose; None: a wide grid
    penalties: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # adamw: decoupled; lbfgs: adds weight_decay / 2 ||W||^2
    batch_size: Annotated[int, Field(ge=1, le=2**31)] = 32
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    patience: Annotated[int, Field(ge=1)] = 10  # epochs without a better validation score
    stop_on: Literal["score", "loss"] = "score"  # what patience and plateau look at; the score chooses the epoch
    schedule: Literal["none", "plateau", "cosine"] = "none"
    plateau_factor: Share = 0.5  # plateau: the rate times this, ...
    plateau_patience: Annotated[int, Field(ge=1)] | None = None  # ... after so many epochs; None: patience / 3
    clip_norm: Annotated[float, Field(gt=0)] | None = None  # of all gradients together
    clip_value: Annotated[float, Field(gt=0)] | None = None  # of each element of a gradient
    sampling: Literal["shuffle", "replacement", "balanced"] = "shuffle"  # balanced: every class as often, drawn anew
    epoch_share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the training part in one epoch

    @property
    def closed_form(self) -> bool:
        """Tell whether the head is fitted in one step."""
        return self.optimiser in ("ridge", "lda")

    @model_validator(mode="after")
    def _penalties(self) -> Self:
        if self.penalties is not None and not self.closed_form:
            raise ValueError(f"penalties are for optimiser 'ridge' and 'lda'; {self.optimiser!r} has weight_decay")
        if self.optimiser == "lda" and any(one > 1 for one in self.penalties or ()):
            raise ValueError(f"penalties of optimiser 'lda' are shrinkages, of 0 to 1, not {max(self.penalties or ())}")
        return self


class Augmentation(Table):
    """`[augment]`: changes to the frames of training batches, after normalisation; never in evaluation."""

    time_masks: Annotated[int, Field(ge=0, le=1000)] = 0  # stretches of an utterance set to zero
    time_mask_share: Share = 0.1  # of the utterance, the longest of them
    channel_masks: Annotated[int, Field(ge=0, le=1000)] = 0  # stretches of channels set to zero
    channel_mask_share: Share = 0.1
    noise: Annotated[float, Field(ge=0)] = 0.0  # standard deviation of Gaussian noise
    mixup: Annotated[float, Field(ge=0)] = 0.0  # alpha of Beta(alpha, alpha); 0: none

    @property
    def active(self) -> bool:
        """Tell whether anything is changed at all."""
        return bool(self.time_masks or self.channel_masks or self.noise or self.mixup)


class Selection(Table):
    """`[selection]`: how the epoch and the searched settings are chosen, on validation, in each fold and seed."""

    metric: Annotated[str, _registered(CHOOSING_METRICS)]
    epoch: Literal["best", "last"] = "best"  # whose weights count
    refit: bool = False  # train again on training + validation with what was chosen, for as many epochs
    average: Annotated[int, Field(ge=1)] = 1  # the mean of so many searched settings, the best ones, predicts
    widen: bool = False  # searched numbers whose best value is at an end: try more beyond it, see `search.wider`

    @property
    def of_classes(self) -> bool:
        """Tell whether the metric is one of a classification."""
        return self.metric in metrics_of("classification")
