"""The results that fill a published table: of the paper's corpora or another one, of its experiments or a variant's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ....train.records.metrics import base_name, metric_name
from ....train.records.published import Column, Paper, PublishedRow, PublishedTable, Variant, read_papers
from ....train.records.run_record import StreamRecord
from ....train.records.systems import Row, read_systems
from ...scoring.result_groups import Result
from ...scoring.scored import Evaluation
from ...scoring.statistics import NO_INTERVAL, Summary

_ARCHITECTURES = ("arch1", "arch2")  # what fills the names of a table of averages


_ENOUGH = 0.9  # of the paper's utterances: labels and failures differ by a few


@dataclass(frozen=True)
class Layout:
    """One table to be laid out.

    Attributes:
        paper, table: the published one.
        variant: whose experiments take the place of the paper's; None for the paper's own.
        corpus: another one than the paper's, which all results are of; "" for the paper's.
        evaluations: those that fill it.
    """

    paper: Paper
    table: PublishedTable
    variant: Variant | None
    corpus: str
    evaluations: Sequence[Evaluation]

    @property
    def name(self) -> str:
        """`paper1/table2`, with what sets the table apart."""
        parts = [self.table.name, self.variant.name if self.variant else "", f"on-{self.corpus}" if self.corpus else ""]
        return f"{self.paper.place}/{'-'.join(filter(None, parts))}"

    @property
    def columns(self) -> list[Column]:
        """The table's; of a variant, or another corpus, those with results, each once."""
        if not ((self.variant and self.evaluations) or self.corpus):
            return list(self.table.column)
        with_results = [c for c in self.table.column if any(self.of(row.ours, c) for row in self.table.row)]
        return list({(c.metric, c.target, c.fill, "" if self.corpus else c.corpus): c for c in with_results}.values())

    def experiments(self, pattern: str, column: Column) -> list[str]:
        """The names of the experiments that a row's pattern means in a column."""
        if not pattern:
            return []
        fills = _ARCHITECTURES if self.table.averages else (column.fill or column.target,)
        names = [pattern.replace("{}", fill) for fill in fills]
        return [self.variant.experiments.replace("*", n.partition("/")[2]) for n in names] if self.variant else names

    def of(self, pattern: str, column: Column) -> list[Evaluation]:
        """The evaluations that a row's pattern means in a column."""
        names = self.experiments(pattern, column)
        own = [e for e in self.evaluations if e.result.first.experiment in names]
        return [e for e in own if self.corpus or not column.corpus or e.result.corpus == column.corpus]

    def commands(self, pattern: str) -> dict[str, str]:
        """The commands that train what a row lacks, by corpus."""
        lacking: dict[str, list[str]] = {}
        known = read_systems().mentioned
        for column in self.columns:
            done = {e.result.first.experiment for e in self.of(pattern, column)}
            names = [n for n in self.experiments(pattern, column) if n in known and n not in done]
            lacking.setdefault(self.corpus_of(column), []).extend(names)
        return {
            corpus: f"emocache train --corpus {corpus} {' '.join(dict.fromkeys(names))}"
            for corpus, names in lacking.items()
            if names
        }

    def corpus_of(self, column: Column) -> str:
        """The corpus to train on for a column."""
        return self.corpus or column.corpus or _corpora(self.paper, self.variant)[0]

    def systems(self) -> dict[str, Row]:
        """The paper's rows of systems.toml by name; of those in several tables, this one's."""
        own = sorted(read_systems().row, key=lambda row: row.table == self.table.called)
        return {row.row: row for row in own if row.paper == self.paper.paper}

    @property
    def mark(self) -> str:
        """The reason why the table is not to be held against the paper; "" where it may be."""
        own = f"on {self.corpus}, and the paper's numbers are of {', '.join(self.paper.corpora)}" if self.corpus else ""
        return "; ".join(filter(None, [self.table.mark, self.variant.mark if self.variant else "", own]))

    @property
    def same_corpus(self) -> bool:
        """True where results and published numbers are of the same corpora."""
        return not self.corpus and set(_corpora(self.paper, self.variant)) <= set(self.paper.corpora)

    def reasons(self, evaluations: Sequence[Evaluation]) -> list[str]:
        """Tell why results are not to be held against the paper's numbers: weights, and what was not run or tested."""
        found = [why for e in evaluations for stream in _streams(e.result) if (why := self._weights(stream))]
        for result in (e.result for e in evaluations):
            if result.missing_runs:
                found.append(f"{result.first.experiment} lacks runs")
                continue
            expected, tested = self.paper.utterances.get(result.corpus, 0), _tested(result)
            if tested < _ENOUGH * expected:
                found.append(f"{tested} of {expected} utterances of {result.corpus} are tested")
        return list(dict.fromkeys(found))

    def _weights(self, stream: StreamRecord) -> str:
        pin = self.paper.weights.get(stream.name.partition(".")[0])
        if pin == "":
            return ""
        if stream.weights is None:
            return f"weights not recorded for {stream.name}"
        same = stream.weights == pin or (pin and "@" not in pin and stream.weights.partition("@")[0] == pin)
        if same or not (stream.weights or pin):
            return ""
        expected = f"expected {pin}" if pin else "which the paper's experiments do not read"
        return f"other weights for {stream.name}: {stream.weights or 'none'}, {expected}"


MEAN = "mean"
"""The target of a column that has the mean over all targets of a result."""


def summary_in(metrics: Mapping[str, Summary], row: PublishedRow, column: Column) -> Summary | None:
    """Find the numbers that a row and a column of a published table ask for among those of a result, by metric.

    The mean over targets has neither spread nor interval: those of the single targets do not give them.
    """
    target = column.target or row.target
    if target != MEAN:
        return metrics.get(metric_name(column.metric, target))
    own = [summary for name, summary in metrics.items() if base_name(name) == column.metric]
    if not own:
        return None
    mean, pooled = (sum(values) / len(own) for values in ([one.mean for one in own], [one.pooled for one in own]))
    return Summary(mean, math.nan, math.nan, math.nan, pooled, NO_INTERVAL)


def layouts(evaluations: Sequence[Evaluation]) -> Iterator[Layout]:
    """Yield every table of every paper: for its corpora, for each other corpus with results, and for its variants.

    A table is there without results too, with no evaluations.
    """
    for paper in read_papers():
        for table in paper.table:
            for variant in (None, *paper.variant):
                whole = Layout(paper, table, variant, "", evaluations)
                names = {
                    n
                    for row in table.row
                    for pattern in (row.ours, row.faithful)
                    for column in table.column
                    for n in whole.experiments(pattern, column)
                }
                own = [e for e in evaluations if e.result.first.experiment in names]
                home = _corpora(paper, variant)
                yield Layout(paper, table, variant, "", [e for e in own if e.result.corpus in home])
                for corpus in dict.fromkeys(e.result.corpus for e in own if e.result.corpus not in home):
                    yield Layout(paper, table, variant, corpus, [e for e in own if e.result.corpus == corpus])


def _corpora(paper: Paper, variant: Variant | None) -> tuple[str, ...]:
    return variant.corpora if variant and variant.corpora else paper.corpora


def _tested(result: Result) -> int:
    """Count the test utterances of all folds, with one seed."""
    return sum({fold: run.record.coverage.test for (fold, _), run in result.runs.items()}.values())


def _streams(result: Result) -> list[StreamRecord]:
    """The streams of a result, each as a run that knows its weights has it."""
    found: dict[tuple[str, str], StreamRecord] = {}
    for run in result.runs.values():
        for stream in run.record.streams:
            if found.get((stream.corpus, stream.name), stream).weights is None or stream.weights is not None:
                found[stream.corpus, stream.name] = stream
    return list(found.values())
