"""The train stage: an experiment on corpora of a cache becomes run folders."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import Cache, EmocacheError
from ..config.search import search_points
from ..config.sections import FeatureSettings
from ..config.settings import Settings
from ..data.dataset import Dataset
from ..data.enrolment import Enrolment, enrolment_of
from ..data.memory import Memory
from ..data.reading import load_dataset
from ..fit.cautions import of_enrolment, of_groups, of_listing, of_parts
from ..fit.fold_result import check_apart
from ..fit.loop import Watch
from ..fit.train_fold import train_fold, with_classes
from ..inputs.joining import JoinedStreams
from ..protocols import copies
from ..protocols.enrolled import enrolled_folds
from ..protocols.folds import Fold, make_folds, split_sha256
from ..records.run_record import Caution, FoldRecord, RunRecord, StreamRecord, run_folder
from ..stored.run_folders import is_stored, recorded, setting_hash, write_run
from ..watch.watching import UNWATCHED, Watching
from .trainings_told import chosen_told


@dataclass(frozen=True, eq=False)
class Plan:
    """Every run of one experiment, checked and ready to be trained, in this process or in others.

    Attributes:
        experiment: its name. corpora: trained as one. runs: where run folders go. settings: what the file says.
        dataset: what is read. folds: of the protocol. split: their hash. setting: see `runs.setting_hash`.
        device: see `choose_device`. leaks: a stored PCA saw test utterances. only: these folds; none: all of them.
        watching: sees epochs as they happen; it decides no number. command: see `RunRecord.command`.
    """

    experiment: str
    corpora: tuple[str, ...]
    runs: Path
    settings: Settings
    dataset: Dataset
    folds: list[Fold]
    split: str
    setting: str
    device: str
    leaks: bool
    only: tuple[int, ...] = ()
    watching: Watching = UNWATCHED
    command: tuple[str, ...] = ()

    def folder(self, fold: int, seed: int) -> Path:
        """Return the folder that a run is stored in."""
        return run_folder(self.runs, self.experiment, self.corpora, self.setting, fold, seed)

    def all_runs(self) -> list[tuple[int, int]]:
        """(fold, seed) of every run that is asked for."""
        folds = self.only or range(len(self.folds))
        return [(fold, seed) for seed in dict.fromkeys(self.settings.seeds) for fold in folds]

    def to_train(self) -> list[tuple[int, int]]:
        """(fold, seed) of the runs that are not stored yet."""
        return [run for run in self.all_runs() if not is_stored(self.folder(*run))]

    @property
    def transductive(self) -> bool:
        """True where anything that is fitted sees test features."""
        points = [point for _, point in search_points(self.settings)]
        limit = self.settings.threshold in ("median", "mean") and self.settings.features.fit_scope == "all"
        return self.leaks or limit or any(_sees_test(p.features.of(role)) for p in points for role in p.streams)

    @property
    def marks(self) -> list[str]:
        """The words that every table must say beside the numbers, further to incomplete and transductive."""
        told = {
            "unmasked": self.settings.masking == "none",
            self.enrolment.words if self.enrolment is not None else None: self.enrolment is not None,
            "validated on test": self.settings.protocol.validation == "test",
            self.settings.head.diagnostic(): self.settings.head.diagnostic() is not None,
        }
        return [mark for mark, holds in told.items() if holds and mark is not None]

    def cautions(self, fold: int) -> list[Caution]:
        """Return the cautions about a fold's runs that are known before they are trained."""
        labelled, _ = with_classes(self.dataset, self.settings, self.folds[fold])
        parts = of_parts(labelled, self.settings, self.folds[fold], len(self.folds))
        return [*self._of_groups, *of_enrolment(self.enrolment, self.folds[fold]), *parts]

    @cached_property
    def enrolment(self) -> Enrolment | None:
        """The utterances that enrol speakers; None where none do."""
        return enrolment_of(self.dataset, self.settings)

    @cached_property
    def _of_groups(self) -> list[Caution]:
        protocol = self.settings.protocol
        return [*of_listing(self.dataset.listing), *of_groups(self.dataset.examples, self.folds, protocol)]

    @cached_property
    def recordings(self) -> dict[str, Any]:
        """See `copies.record`."""
        folds = self.folds
        if (enrolment := self.enrolment) is not None:
            folds = [replace(fold, test=np.union1d(fold.test, enrolment.of(fold.test))) for fold in folds]
        return copies.record(self.dataset.examples, folds, self.settings.protocol)

    def train(
        self, fold: int, seed: int, streams: JoinedStreams | None = None, tell_epoch: Watch = lambda _: None
    ) -> str:
        """Train and store one run; returns a line that tells of it.

        Args:
            fold: of the plan.
            seed: of the settings.
            streams: that runs may share.
            tell_epoch: also takes what the trackers are told of each epoch.
        """
        device = torch.device(self.device)
        folder = self.folder(fold, seed)
        with self.watched(folder, fold, seed, tell_epoch) as watch:
            result = train_fold(self.dataset, self.settings, self.folds[fold], seed, device, streams, watch)
            # The record's digest is of every stream: one that nothing has asked for is read now, and so compared with
            # it.
            dict(self.dataset.features)
            write_run(folder, self.record(fold, seed, result.record), result)
        told = chosen_told(self.settings, result.record.selection)
        return f"fold {fold} seed {seed}: {told} ({result.record.seconds:.1f} s)"

    @contextmanager
    def watched(self, folder: Path, fold: int, seed: int, tell_epoch: Watch) -> Iterator[Watch]:
        """Yield what takes each epoch of the run that a folder will hold: for the trackers, and for one more."""
        about = {
            "experiment": self.experiment,
            "corpora": list(self.corpora),
            "setting": self.setting,
            "fold": fold,
            "seed": seed,
            "folder": str(folder),
            "settings": recorded(self.settings),
        }
        with self.watching.run(about) as watch:

            def take(line: dict[str, Any]) -> None:
                watch(line)
                tell_epoch(line)

            yield take

    def record(self, fold: int, seed: int, trained: FoldRecord) -> RunRecord:
        """Return what run.json says of a run that was trained."""
        s = self.settings
        whole = {
            "warnings": (*self.cautions(fold), *trained.warnings),
            "experiment": self.experiment,
            "corpora": self.corpora,
            "streams": [StreamRecord(corpus=source.corpus, name=source.name, fingerprint=source.fingerprint,
                                     weights=source.weights) for source in self.dataset.sources],
            "task": s.task,
            "targets": s.targets,
            "classes": self.dataset.classes or (("low", "high") if s.threshold else None),
            "protocol": {**s.protocol.model_dump(mode="json"), "folds": len(self.folds),
                         "transductive": self.transductive,
                         "file_sha256": self.dataset.listing and self.dataset.listing.sha256},
            "fold": fold,
            "folds": len(self.folds),
            "seed": seed,
            "setting": self.setting,
            "config": recorded(s),
            "command": self.command,
            "report": s.report,
            "manifests": self.dataset.manifests,
            "item_digest": self.dataset.item_digest,
            "split_sha256": self.split,
            "incomplete": self.dataset.incomplete,
            "transductive": self.transductive,
            "marks": self.marks,
            "recordings": self.recordings,
            "auxiliary": s.auxiliary,
            "missing_policy": s.missing,
            "dropped_classes": self.dataset.dropped,
            "unlabelled": self.dataset.unlabelled,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        return RunRecord(**{**dict(trained), **whole})


def make_plan(
    cache: Cache,
    corpora: Sequence[str],
    runs: Path,
    experiment: str,
    settings: Settings,
    device: str = "cpu",
    allow_incomplete: bool = False,
    memory: Memory | None = None,
) -> Plan:
    """Load what an experiment reads, cut the folds, and refuse what would leak.

    Args:
        cache: has the streams.
        corpora: trained as one.
        runs: the folder that run folders go to.
        experiment: its name.
        settings: what its file says.
        device: "cpu", "cuda" or "cuda:1".
        allow_incomplete: streams may lack utterances that were never extracted.
        memory: the room for frames; None: a share of what the machine has.

    Returns:
        The plan; frames are read when they are first needed.

    Raises:
        EmocacheError: see `dataset.load_dataset`, `folds.make_folds`, `enrolled_folds` and `results.check_apart`; a
            corpus named twice; or a stored PCA that was fitted on a fold's test utterances.
    """
    if len(set(corpora)) < len(corpora):
        raise EmocacheError(f"a corpus is named twice: {', '.join(corpora)}")
    dataset = load_dataset(cache, corpora, settings, allow_incomplete, memory or Memory(folder=runs))
    folds = make_folds(dataset.examples, settings.protocol)
    if settings.targets_apart and len(settings.targets) > 1:
        check_apart(dataset, settings.targets, folds)
    points = [point for _, point in search_points(settings)]
    strict = {
        name.partition("@")[0]
        for point in points
        for role, names in point.streams.items()
        if point.features.of(role).fit_scope == "train"
        for name in names
    }
    if leak := find_leak(dataset, folds, strict):
        raise EmocacheError(f"{leak}; project it on training utterances only (--fit-on), use features.pca, which is"
                            " fitted in each fold, or ask for it with features.fit_scope = 'all'")  # fmt: skip
    leaks = find_leak(dataset, folds, {source.name for source in dataset.sources}) is not None
    folds = enrolled_folds(folds, enrolment_of(dataset, settings))
    split = split_sha256(dataset.examples, folds)
    setting = setting_hash(settings, dataset, split, copies.joined_draws(dataset.examples, settings.protocol))
    return Plan(experiment, tuple(corpora), runs, settings, dataset, folds, split, setting, device, leaks)


def _sees_test(features: FeatureSettings) -> bool:
    fitted = features.pca is not None or features.normalise == "train" or features.trainable_words != "none"
    of_speakers = features.normalise == "per_speaker" and features.enrolment is None
    return of_speakers or (features.fit_scope == "all" and fitted)


def find_leak(dataset: Dataset, folds: Sequence[Fold], streams: Collection[str]) -> str | None:
    """Tell how the stored PCA of one of the streams has seen test utterances of some fold; None where none has."""
    for source in dataset.sources:
        if source.projection is None or source.name not in streams:
            continue
        speakers, ids = set(source.projection["speakers"] or ()), set(source.projection["ids"] or ())
        own = [example for example in dataset.examples if example.corpus == source.corpus]
        fitted = {e.key for e in own if e.id in ids or e.speaker in speakers}
        heard = {recording for e in own if e.key in fitted for recording in e.recordings}
        for number, fold in enumerate(folds):
            tested = [dataset.examples[row] for row in fold.test if dataset.examples[row].corpus == source.corpus]
            seen = [e for e in tested if e.key in fitted or not heard.isdisjoint(e.recordings)]
            if seen:
                known = seen[0].speaker in speakers
                who = f"speaker {seen[0].speaker!r}" if known else f"utterance {seen[0].id!r}"
                who += "" if seen[0].key in fitted else ", under another id,"
                return (
                    f"the PCA of stream {source.corpus}/{source.name} was fitted on"
                    f" {source.projection['fit_on']!r}, which holds {who} of the test part of fold {number}"
                )
    return None
