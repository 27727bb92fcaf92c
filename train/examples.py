"""The utterances of a protocol, each with its reference and with what folds and tables ask of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..cache import EmocacheError, Manifest
from ..cache.manifest import parse_expression
from .references import Reference, references
from .settings import Settings

_OWN = ("corpus", "speaker", "session", "culture", "gender", "split")


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance of the protocol, with features or without."""

    corpus: str
    id: str
    speaker: str | None
    session: str | None
    gender: str | None
    split: str | None
    reference: Reference
    culture: str | None = None
    auxiliary: int | None = None  # class number of the second target; None where unknown
    columns: Mapping[str, str | None] = field(default_factory=dict)  # other columns that the settings name

    @property
    def group(self) -> str:
        """What a bootstrap draws: the speaker, else the session, else the utterance."""
        return self.speaker or self.session or self.id

    @property
    def key(self) -> str:
        """Unique over corpora."""
        return f"{self.corpus}/{self.id}"

    def column(self, name: str) -> str | None:
        """What the manifest says of it; None where it says nothing. "corpus" is a column too."""
        return getattr(self, name) if name in _OWN else self.columns[name]


class Examples(NamedTuple):
    """Every utterance with a reference.

    Attributes:
        rows: in the order of corpora and ids. classes: sorted; empty where the task has none. auxiliary: classes of
            the second target. dropped: {label: utterances} left out by the label map. unlabelled: utterances without
            a reference.
    """

    rows: list[Example]
    classes: tuple[str, ...]
    auxiliary: tuple[str, ...]
    dropped: dict[str, int]
    unlabelled: int


def make_examples(manifests: Sequence[Manifest], settings: Settings) -> Examples:
    """The utterances of the manifests that have a reference.

    Raises:
        EmocacheError: no utterance has one, or a corpus lacks a column that the settings name.
    """
    dropped: Counter[str] = Counter()
    unlabelled = 0
    found = [references(manifest, settings, dropped) for manifest in manifests]
    labels = sorted({ref for refs in found for ref in refs if isinstance(ref, str)})
    classes = tuple(sorted(settings.labels)) if settings.labels else tuple(labels)
    second = [_column(m, settings.auxiliary) if settings.auxiliary else [None] * len(m) for m in manifests]
    auxiliary = tuple(sorted({name for column in second for name in column if name is not None}))
    if settings.auxiliary and len(auxiliary) < 2:
        raise EmocacheError(f"auxiliary = {settings.auxiliary!r} has the classes {list(auxiliary)}; a head cannot learn"
                            " it from fewer than 2; leave auxiliary out, with a head of one task")  # fmt: skip
    rows = []
    for manifest, refs, others in zip(manifests, found, second, strict=True):
        own = [manifest.column(name) for name in ("speaker", "session", "gender", "split", "culture")]
        extra = {name: _column(manifest, name) for name in _named_columns(settings)}
        for k, (id_, ref, *known) in enumerate(zip(manifest.ids, refs, *own, strict=True)):
            speaker, session, gender, split, culture = known
            if ref is None:
                unlabelled += 1
            elif settings.protocol.name != "official" or split in ("train", "valid", "test"):
                target = classes.index(ref) if isinstance(ref, str) else ref
                other = None if others[k] is None else auxiliary.index(others[k])
                columns = {name: values[k] for name, values in extra.items()}
                rows.append(
                    Example(manifest.corpus, id_, speaker, session, gender, split, target, culture, other, columns)
                )
    unlabelled -= sum(dropped.values())
    if not rows:
        where = " + ".join(m.corpus for m in manifests)
        reason = f"; the label map drops {dict(dropped)}" if dropped else ""
        raise EmocacheError(f"no utterance of {where} has {' and '.join(settings.targets)}{reason}")
    return Examples(rows, classes, auxiliary, dict(sorted(dropped.items())), unlabelled)


def _named_columns(settings: Settings) -> list[str]:
    protocol = settings.protocol
    named = [protocol.group, protocol.validation_group, settings.vote]
    for text in (protocol.train_on, protocol.test_on):
        named += [column for column, _ in parse_expression(text or "all")]
    return [name for name in dict.fromkeys(named) if name and name not in _OWN]


def _column(manifest: Manifest, name: str) -> list[Any]:
    """A column as text; a number that is whole loses its point."""
    return [None if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in manifest.column(name)]
