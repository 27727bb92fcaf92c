"""Means of speakers of whom only a few utterances are known, under what training speakers tell of speakers in general.

Of one channel, over the T training speakers: m_t is the mean of the frames of speaker t, c_ti that of utterance i of
the n_t, and

    mean     mu      mean of the m_t
    scale    s       root of the mean square of x - m_t over all frames x of training
    within   w       sum over t and i of (c_ti - mean over i of c_ti)^2 / sum over t of (n_t - 1)
    between  b       max(0, variance of the means over i of c_ti, divisor T - 1, less w times the mean of 1 / n_t)

A training speaker's frames become (x - m_t) / s. Of another speaker n utterances are known, whose frames have mean m;
theirs become (x - m') / s, with m' = mu + b / (b + w / n) (m - mu). That is the mean of what m_t may be given m where
both are normal, with the variances put in as estimated (empirical Bayes; Efron and Morris 1973): of n utterances with
different emotions the mean is noisy, and without any it is mu. A speaker's own scale would be noisier still.
Vectors, in the place of an utterance's frames, are utterances of one frame.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .normalisation import Rows, spread
from .prepared import Joined, Normaliser, SpeakerPrior

Floats = npt.NDArray[np.float64]


def enrol(
    features: Joined, speakers: Sequence[str], training: Rows, enrolled: Rows, prior: SpeakerPrior | None = None
) -> Normaliser:
    """Fit the mean of every speaker, and the scale that all share.

    Args:
        features: U utterances, D channels.
        speakers: U names.
        training: the utterances of speakers who train, all of which count; none where a prior is given.
        enrolled: utterances that count for their speaker, unless that one trains.
        prior: of a run, which is fitted to the training speakers where none is given.

    Returns:
        Statistics, computed in float64, kept in float32, and the prior, whose mean a speaker without utterances has.
    """
    names = sorted(set(speakers))
    number = {name: k for k, name in enumerate(names)}
    group_of = np.array([number[speaker] for speaker in speakers], np.int64)
    trains = np.zeros(len(names), bool)
    trains[group_of[np.asarray(training, np.int64)]] = True
    rows = [*training, *(row for row in enrolled if not trains[group_of[row]])]
    pilot = features.of(rows[0]).mean(axis=0, dtype=np.float64) if rows else np.zeros(features.frames.shape[1])
    sums = _sums(features, rows, group_of, len(names), pilot)
    found = pilot + sums.total / np.maximum(sums.frames, 1)
    if prior is None:
        prior = _prior(sums.of(trains), pilot)
    clips = sums.clips
    between, within, mean = (part.astype(np.float64) for part in (prior.between, prior.within, prior.mean))
    # Of one training speaker nothing is known of how speakers differ: NaN, and no shrinking.
    held = clips * between + within
    share = np.where(np.isnan(held), clips > 0, clips * between / np.where(held > 0, held, 1))
    share[trains] = 1.0
    means = mean + share * (found - mean)
    return Normaliser(tuple(names), means.astype(np.float32), np.repeat(prior.std, len(names), axis=0), group_of, prior)


class _Sums(NamedTuple):
    """Of G speakers and D channels, (G, D) each, of distances from a pilot.

    Attributes:
        frames: their number. total, squares: of the frames. clips: utterances with any. first, second: sums of their
            means, and of the squares of these.
    """

    frames: Floats
    total: Floats
    squares: Floats
    clips: Floats
    first: Floats
    second: Floats

    def of(self, groups: npt.NDArray[np.bool_]) -> "_Sums":
        return _Sums(*(part[groups] for part in self))


def _sums(features: Joined, rows: Sequence[int], group_of: npt.NDArray[np.int64], groups: int, pilot: Floats) -> _Sums:
    sums = _Sums(*np.zeros((6, groups, len(pilot))))
    for row in rows:
        # Squares are of distances to a nearby value: of large numbers the variance would be lost in rounding.
        centred = features.of(row).astype(np.float64) - pilot
        if features.valid is None:
            count = np.full(len(pilot), float(len(centred)))
        else:
            there = np.repeat(features.valid_rows(row), features.widths, axis=1)
            centred *= there
            count = there.sum(axis=0).astype(np.float64)
        total = centred.sum(axis=0)
        own = total / np.maximum(count, 1)
        told = (count, total, (centred**2).sum(axis=0), count > 0, own, own**2)
        for part, value in zip(sums, told, strict=True):
            part[group_of[row]] += value
    return sums


def _prior(sums: _Sums, pilot: Floats) -> SpeakerPrior:
    """The statistics of training speakers, see above; channels of which a speaker has nothing are the others'."""
    known = sums.clips > 0
    speakers = np.maximum(known.sum(axis=0), 1)
    means = sums.total / np.maximum(sums.frames, 1)
    mean = means.sum(axis=0) / speakers
    variance = (sums.squares - sums.frames * means**2).sum(axis=0) / np.maximum(sums.frames.sum(axis=0), 1)
    centres = sums.first / np.maximum(sums.clips, 1)
    freedom = np.maximum(sums.clips - 1, 0).sum(axis=0)
    within = np.maximum(sums.second - sums.clips * centres**2, 0).sum(axis=0) / np.maximum(freedom, 1)
    apart = np.where(known, centres - centres.sum(axis=0) / speakers, 0)
    noise = within * np.where(known, 1 / np.maximum(sums.clips, 1), 0).sum(axis=0) / speakers
    between = np.maximum((apart**2).sum(axis=0) / np.maximum(speakers - 1, 1) - noise, 0)
    between = np.where((speakers > 1) & (freedom > 0), between, np.nan)
    std = spread(pilot + mean, np.maximum(variance, 0))
    parts = (pilot + mean, std, between, within)
    return SpeakerPrior(*(part[None].astype(np.float32) for part in parts))
