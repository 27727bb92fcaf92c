"""The first minute: for each contest the best system, its lead, its interval, chance, the paper, and its failures."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...train.records.metrics import METRICS, base_name
from ..output.cells import counted, interval, number, p_value
from ..papers.published.published_scores import PublishedScore
from ..scoring.breakdowns.subgroups import Subgroup, class_scores
from ..scoring.ranking.contests import Contest
from ..scoring.ranking.standings import chance
from ..scoring.sanity import DIAGNOSTIC
from ..scoring.scored import Evaluation
from .media_links import Source

FEWEST = 5
"""Utterances of a speaker that is named as the worst, where any speaker has so many."""


@dataclass(frozen=True)
class Fact:
    """A question with its answer; `strong` is the number at a glance."""

    question: str
    strong: str
    told: str


@dataclass(frozen=True)
class Headline:
    """The answers to be read before anything else, of one contest."""

    title: str
    facts: Sequence[Fact]
    commands: Sequence[str]


def headline(
    contest: Contest,
    names: Sequence[str],
    published: Sequence[Sequence[PublishedScore]],
    groups: Mapping[str, Sequence[Subgroup]],
    again: Sequence[str],
) -> Headline:
    """Answer the questions of a reader who has a minute.

    Args:
        contest: the results, compared.
        names: of its entries.
        published: of each entry the cells of papers that it fills.
        groups: {column: the best system's scores by its values}.
        again: the commands that make the numbers anew.

    Returns:
        The answers, in the order of the questions.
    """
    record = contest.best.result.first
    facts = [
        _best(contest, names),
        _lead(contest, names),
        _certainty(contest),
        _chance(contest),
        _published(contest, names, published),
        *_worst(contest, groups),
    ]
    target = contest.standing.target or ", ".join(record.targets)
    return Headline(f"{contest.best.result.corpus}, {target}: {base_name(contest.metric)}", facts, again)


def _best(contest: Contest, names: Sequence[str]) -> Fact:
    marks = contest.best.result.marks
    read_with = f" Read it with: {', '.join(marks)}." if marks else ""
    of = "the only one" if len(contest.entries) == 1 else f"of {len(contest.entries)}"
    score = number(contest.best.metrics[contest.metric].pooled)
    higher = [
        f"{name} has {number(entry.metrics[contest.metric].pooled)}, but: {', '.join(entry.result.marks)}"
        for name, entry in zip(names, contest.entries, strict=True)
        if any(entry is one for one in contest.standing.higher)
    ]
    more = f"; and {len(higher) - 1} more" if len(higher) > 1 else ""
    told = f" {higher[0]}{more}." if higher else ""
    return Fact("Best system", names[0], f"{contest.metric} {score}, {of}.{read_with}{told}")


def _lead(contest: Contest, names: Sequence[str]) -> Fact:
    question = "By how much"
    if len(contest.entries) == 1:
        return Fact(question, "–", "There is no other system to compare it with.")
    lead = contest.lead
    if lead is None or lead.difference is None:
        return Fact(question, "–", f"No paired difference to {names[1]}: {lead.why if lead else 'too many systems'}.")
    found = lead.difference
    verdict = "the interval excludes 0" if lead.apart else "the interval holds 0: the two are not told apart"
    p = "" if math.isnan(found.wilcoxon_holm) else f"; Wilcoxon over folds, Holm: p {p_value(found.wilcoxon_holm)}"
    less = " (less is better; positive is better here)" if METRICS[base_name(contest.metric)].smaller_is_better else ""
    told = f"over {names[1]}, paired, on {lead.utterances} utterances; 95 % interval {interval(found.ci95, True)}"
    return Fact(question, number(found.difference, True), f"{told}{less}; {verdict}{p}.")


def _certainty(contest: Contest) -> Fact:
    summary, best = contest.best.metrics[contest.metric], contest.best
    spread = "" if math.isnan(summary.std) else f" Over folds: {number(summary.mean)} ± {number(summary.std)}."
    few = " Fewer than 20 groups: the interval is approximate, and mostly too narrow." if best.approximate else ""
    if math.isnan(summary.ci95[0]):
        return Fact("How sure", "–", f"No interval: {summary.reasons.get('ci95', 'undefined')}.{spread}")
    told = f"95 % bootstrap interval over {counted(best.groups, best.unit)}.{spread}{few}"
    return Fact("How sure", interval(summary.ci95), told)


def _chance(contest: Contest) -> Fact:
    name, value = chance(contest.best, contest.metric)
    guesses = {
        own: metrics[contest.metric].pooled
        for own, metrics in contest.best.sanity.items()
        if contest.metric in metrics and own not in DIAGNOSTIC
    }
    if not name:
        return Fact("Against chance", "–", "No guess without a model has this number.")
    sign = -1 if METRICS[base_name(contest.metric)].smaller_is_better else 1
    summary = contest.best.metrics[contest.metric]
    above = sign * (summary.pooled - value)
    ends = sorted(sign * (end - value) for end in summary.ci95)
    sure = "; its interval lies above it" if ends[0] > 0 else "; its interval does not lie above it"
    told = ", ".join(f"{own} {number(score)}" for own, score in guesses.items())
    return Fact("Against chance", number(above, True), f"over {name} ({told}){sure}.")


def _published(contest: Contest, names: Sequence[str], cells: Sequence[Sequence[PublishedScore]]) -> Fact:
    """Of the best system that a paper's number can be held against; else why it cannot be."""
    question = "Against the paper"
    of_metric = [[cell for cell in own if cell.metric == contest.metric] for own in cells]
    for name, own in zip(names, of_metric, strict=True):
        if fair := [cell for cell in own if not cell.why_not]:
            told = "; ".join(f"{number(cell.ours)} here, {cell.text} in {_cell(cell)}" for cell in fair)
            whose = "" if name == names[0] else f"{name}, as the best has no published number: "
            return Fact(question, number(fair[0].ours - fair[0].value, True), f"{whose}mean over folds {told}.")
    named = [(name, own) for name, own in zip(names, of_metric, strict=True) if own]
    if not named:
        return Fact(question, "none", "No published number: no paper's table here has these systems with this score.")
    name, own = named[0]
    printed = "; ".join(f"{cell.text} in {_cell(cell)}" for cell in own[:4])
    return Fact(question, "not comparable", f"{name}: published {printed}. Not compared: {own[0].why_not}.")


def _cell(cell: PublishedScore) -> str:
    return f"{cell.table} ({', '.join(filter(None, (cell.row, cell.part)))})"


def worst(groups: Sequence[Subgroup], metric: str) -> Subgroup | None:
    """Return the group with the worst score, of those with enough utterances if any have so many."""
    known = [group for group in worst_first(groups, metric) if not math.isnan(group.scores[metric])]
    return next((group for group in known if group.utterances >= FEWEST), next(iter(known), None))


def worst_first(groups: Sequence[Subgroup], metric: str) -> list[Subgroup]:
    """Return the groups that have a metric in the order of their scores; those whose score is undefined come last."""
    sign = -1 if METRICS[base_name(metric)].smaller_is_better else 1
    known = [group for group in groups if metric in group.scores]
    return sorted(known, key=lambda group: (math.isnan(group.scores[metric]), sign * group.scores[metric]))


def _worst(contest: Contest, groups: Mapping[str, Sequence[Subgroup]]) -> list[Fact]:
    facts = []
    for column, own in groups.items():
        if (group := worst(own, contest.metric)) is not None:
            count = counted(group.utterances, "utterance")
            told = (
                f"{contest.metric} {number(group.scores[contest.metric])} on {count}, of {counted(len(own), column)}."
            )
            facts.append(Fact(f"Fails most: {column}", group.value, told))
    classes = [one for one in class_scores(contest.best) if not math.isnan(one.recall)]
    if classes:
        least = min(classes, key=lambda one: one.recall)
        taken = f", mostly taken for {least.taken_for}" if least.taken_for else ""
        facts.append(Fact("Fails most: class", least.name, f"{100 * least.recall:.0f} % are found{taken}."))
    return facts


def commands(evaluation: Evaluation, runs: Sequence[str], source: Source, cache: str) -> list[str]:
    """Return the commands that make a result again, from the media to this page, with all that was set by hand."""
    first = evaluation.result.first
    experiment, *changed = first.command or (first.experiment,)
    store = ["--cache", cache]
    lines = []
    for corpus in first.corpora:
        data = [word for folder in source.folders_of(corpus)[:1] for word in ("--data", str(folder))]
        lines.append(["extract", corpus, *_streams(evaluation, experiment, changed, corpus), *data, *store])
    corpora = [word for corpus in first.corpora for word in ("--corpus", corpus)]
    settings = [word for one in changed for word in ("--set", one)]
    media = [word for folder in source.folders for word in ("--media", str(folder))]
    folder = next(iter(evaluation.result.runs.values())).folder
    own = next((one for one in runs if folder.is_relative_to(one)), runs[0])
    lines.append(["train", experiment, *corpora, *settings, *store, "--runs", own])
    lines.append(["evaluate", *runs, *(store if source.cache is not None else ()), *media])
    return [shlex.join(["emocache", *line]) for line in lines]


def _streams(evaluation: Evaluation, experiment: str, changed: Sequence[str], corpus: str) -> list[str]:
    """The options of `emocache extract`: those of a shipped experiment, else the streams that were read."""
    if not experiment.endswith(".toml") and not any(one.startswith("streams") for one in changed):
        return ["--for", experiment]
    names = dict.fromkeys(s.name for s in evaluation.result.first.streams if s.corpus == corpus)
    return [word for name in names for word in ("--stream", name)]
