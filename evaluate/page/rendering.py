"""The page as a whole: numbers are gathered, pictures drawn, and one HTML file made of them."""

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...train.records.metrics import base_name
from ..output.cells import interval, number
from ..papers.published.published_scores import published_scores
from ..scoring.breakdowns.clip_losses import LOSSES, Clip, clips
from ..scoring.breakdowns.subgroups import Subgroup, class_scores, pooled_predictions, subgroups
from ..scoring.ranking.contests import MOST, Contest, contests
from ..scoring.scored import Evaluation
from ..scoring.statistics import FEWEST_FOLDS
from ..scoring.stored_predictions import Predictions
from . import charts, data_tables
from .details import Details, details, provenance
from .headline import Headline, commands, headline
from .media_links import Source
from .pictures import Album, Picture

TEMPLATES = Path(__file__).parent / "templates"
MOST_HEADLINES = 4
MOST_DRAWN = 24
"""Results with pictures of their own: the best of each contest, then the second, and so on."""
MOST_RANKINGS = 8


@dataclass(frozen=True)
class _Gathered:
    """All numbers of the page; lists are in the order of the evaluations."""

    evaluations: Sequence[Evaluation]
    names: list[str]
    held: list[Contest]
    main: list[set[str]]  # the metrics that contests are about
    seeds: list[list[Predictions]]
    speakers: list[list[Subgroup]]
    cultures: list[list[Subgroup]]
    losses: list[list[Clip]]
    commands: list[list[str]]

    def place(self, evaluation: Evaluation) -> int:
        """The place of a result among all."""
        return next(place for place, own in enumerate(self.evaluations) if own is evaluation)

    @property
    def order(self) -> list[int]:
        """The places of all results: best first, contest by contest; those of no contest last."""
        places = [self.place(entry) for contest in self.held for entry in contest.entries]
        return list(dict.fromkeys([*places, *range(len(self.names))]))

    def names_of(self, contest: Contest) -> list[str]:
        """The names of a contest's entries."""
        return [self.names[self.place(entry)] for entry in contest.entries]


def render(evaluations: Sequence[Evaluation], runs: Sequence[str], source: Source, cache: str = "store") -> str:
    """Make the page.

    Args:
        evaluations: the results with their numbers.
        runs: the folders that they are from, as they were named.
        source: of texts and media, and the file that the page is for.
        cache: the name of the cache in the commands.

    Returns:
        The HTML.

    Raises:
        EmocacheError: predictions or histories that cannot be read.
    """
    found, album = _gather(evaluations, runs, source, cache), Album()
    headlines = _headlines(found)
    titles = [one.title for one in headlines]
    drawn = list(dict.fromkeys(map(found.place, _best_first(found.held))))[:MOST_DRAWN]
    tables = _tables(found, titles, source)
    return _fill(
        headlines=headlines[:MOST_HEADLINES],
        further=max(0, len(headlines) - MOST_HEADLINES),
        rankings=_rankings(found, titles, album),
        sections=[_details(found, place, album) for place in drawn],
        undrawn=len(evaluations) - len(drawn),
        warnings=_warnings(found),
        provenance=[
            provenance(found.names[place], evaluations[place].result, found.commands[place]) for place in found.order
        ],
        losses={task: LOSSES[task] for task in dict.fromkeys(own.result.first.task for own in evaluations)},
        tables={name: table for name, table in tables.items() if table["rows"]},
        counts=(len(evaluations), sum(len(own.result.runs) for own in evaluations)),
    )


def _gather(evaluations: Sequence[Evaluation], runs: Sequence[str], source: Source, cache: str) -> _Gathered:
    held = contests(evaluations)
    seeds = [pooled_predictions(own.result) for own in evaluations]
    return _Gathered(
        evaluations,
        _unique([data_tables.name_of(own.result) for own in evaluations], [own.result.corpus for own in evaluations]),
        held,
        [_main(own, held) for own in evaluations],
        seeds,
        [subgroups(own, "speaker") for own in seeds],
        [subgroups(own, "culture") for own in seeds],
        [clips(own.result) for own in evaluations],
        [commands(own, runs, source, cache) for own in evaluations],
    )


def _main(evaluation: Evaluation, held: Sequence[Contest]) -> set[str]:
    """The metrics of the contests that a result is in; of one that is in none, those of any."""
    own = {contest.metric for contest in held if any(entry is evaluation for entry in contest.entries)}
    return own or {contest.metric for contest in held} & set(evaluation.metrics)


def _headlines(found: _Gathered) -> list[Headline]:
    published = published_scores(found.evaluations)
    made = []
    for contest in found.held:
        place = found.place(contest.best)
        groups = {"speaker": found.speakers[place], "culture": found.cultures[place]}
        cells = [published.get(found.place(entry), ()) for entry in contest.entries]
        made.append(headline(contest, found.names_of(contest), cells, groups, found.commands[place]))
    return made


def _details(found: _Gathered, place: int, album: Album) -> Details:
    name, own, metrics = found.names[place], found.evaluations[place], sorted(found.main[place])
    return details(place, name, own, found.seeds[place], found.losses[place], found.speakers[place], metrics, album)


def _tables(found: _Gathered, titles: Sequence[str], source: Source) -> dict[str, data_tables.Table]:
    names, first = found.names, found.names_of(found.held[0])[0]
    groups = [[*own, *others] for own, others in zip(found.speakers, found.cultures, strict=True)]
    classes = [class_scores(own) for own in found.evaluations]
    main = dict(zip(names, found.main, strict=True))
    entries = [found.names_of(contest) for contest in found.held]
    places = found.order
    ordered = [found.evaluations[k] for k in places], [names[k] for k in places], [found.main[k] for k in places]
    return {
        "results": data_tables.results_table(*ordered),
        "pairs": data_tables.pairs_table(found.held, titles, entries),
        "groups": data_tables.groups_table(dict(zip(names, groups, strict=True)), main, first),
        "classes": data_tables.classes_table(dict(zip(names, classes, strict=True)), first),
        "clips": data_tables.clips_table(dict(zip(names, found.losses, strict=True)), source, first),
        "missing": data_tables.failures_table(found.evaluations, names, source),
    }


def _rankings(found: _Gathered, titles: Sequence[str], album: Album) -> list[Picture]:
    ranked = [pair for pair in zip(found.held, titles, strict=True) if len(pair[0].entries) > 1]
    return [_ranking(contest, title, found.names_of(contest), album) for contest, title in ranked[:MOST_RANKINGS]]


def _unique(names: Sequence[str], corpora: Sequence[str]) -> list[str]:
    """The names, with the corpus where two are the same, and a number where that does not tell them apart."""
    twice = Counter(names)
    told = [f"{name} ({corpus})" if twice[name] > 1 else name for name, corpus in zip(names, corpora, strict=True)]
    again = Counter(told)
    return [f"{name} #{place + 1}" if again[name] > 1 else name for place, name in enumerate(told)]


def _best_first(held: Sequence[Contest]) -> Iterator[Evaluation]:
    """The best of each contest, then the second of each, and so on."""
    for place in range(max(len(contest.entries) for contest in held)):
        yield from (contest.entries[place] for contest in held if place < len(contest.entries))


def _ranking(contest: Contest, title: str, names: Sequence[str], album: Album) -> Picture:
    rows = []
    for place, entry in enumerate(contest.entries[:MOST]):
        summary = entry.metrics[contest.metric]
        rank = number(contest.ranks[place], digits=2) if place in contest.ranks else "–"
        rows.append([names[place], number(summary.pooled), interval(summary.ci95), rank])
    alike = "; ".join(f"{names[a]} to {names[b]}" for a, b in contest.alike)
    apart = "; ".join(f"{names[a]} and {names[b]}" for a, b in contest.alike_across)
    told = [
        f"{title}, with 95 % intervals.",
        f"The best {MOST} of {len(names)}." if len(names) > MOST else "",
        f"Bars at the right join systems that are not told apart: {alike}." if alike else "",
        f"Not told apart either, across others: {apart}." if apart else "",
        "" if alike or apart else "All are told apart.",
        "Last, whatever their score: those that lack runs, or saw test data." if contest.standing.higher else "",
    ]
    caption = " ".join(filter(None, told))
    headings = ["system", base_name(contest.metric), "95 % interval", "mean rank over folds"]
    return album.picture(charts.ranking(contest, names), f"Systems ranked by {title}", caption, headings, rows)


def _warnings(gathered: _Gathered) -> list[tuple[str, str, list[str]]]:
    """(kind, text, the systems with the runs that were warned)."""
    found: dict[tuple[str, str], list[str]] = {}
    for evaluation, name in zip(gathered.evaluations, gathered.names, strict=True):
        whole = len(evaluation.result.runs)
        for warning, count in evaluation.result.warnings.items():
            found.setdefault(warning, []).append(name if count == whole else f"{name} ({count} of {whole} runs)")
    return [(kind, text, own) for (kind, text), own in found.items()]


def _fill(**told: Any) -> str:
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:;"
        " media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The style sheet and the script are the package's own; all else that is no picture is escaped.
    tables = told["tables"]
    own = {
        "fewest_folds": FEWEST_FOLDS,
        "css": Markup(css),
        "script": Markup(script),
        "policy": policy,
        "data": script_json(tables),
        "static": {name: data_tables.static(table) for name, table in tables.items()},
        "played": any(column["kind"] == "media" for table in tables.values() for column in table["columns"]),
    }
    return environment.get_template("report.html.j2").render(**told, **own)


def script_json(value: Any) -> Markup:
    """Write JSON for a script element: nothing in it can end the element, or a line of JavaScript.

    >>> print(script_json("</script>"))
    "\\u003c/script\\u003e"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
