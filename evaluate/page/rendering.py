"""The page as a whole: numbers are gathered, pictures drawn, and one HTML file made of them."""

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...train.records.metrics import base_name
from ..output.cells import interval, number
from ..scoring.breakdowns.clip_losses import LOSSES, clips
from ..scoring.breakdowns.subgroups import class_scores, pooled_predictions, subgroups
from ..scoring.contests import MOST, Contest, contests
from ..scoring.scored import Evaluation
from . import charts, data_tables
from .details import Details, details, provenance
from .headline import commands, headline
from .media_links import Source
from .pictures import Album, Picture
from .published_scores import published_scores

TEMPLATES = Path(__file__).parent / "templates"
MOST_HEADLINES = 4
MOST_DRAWN = 24
"""Results with pictures of their own: the best of each contest, then the second, and so on."""
MOST_RANKINGS = 8


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
    names = _unique([data_tables.label(evaluation.result) for evaluation in evaluations],
                    [evaluation.result.corpus for evaluation in evaluations])  # fmt: skip
    place_of = {id(evaluation): place for place, evaluation in enumerate(evaluations)}
    name_of = {id(evaluation): name for evaluation, name in zip(evaluations, names, strict=True)}
    held = contests(evaluations)
    seeds = [pooled_predictions(evaluation.result) for evaluation in evaluations]
    speakers = [subgroups(own, "speaker") for own in seeds]
    cultures = [subgroups(own, "culture") for own in seeds]
    main: dict[int, set[str]] = {}
    for contest in held:
        for entry in contest.entries:
            main.setdefault(place_of[id(entry)], set()).add(contest.metric)
    published = published_scores(evaluations)
    again = [commands(evaluation, runs, cache) for evaluation in evaluations]
    losses = [clips(evaluation.result) for evaluation in evaluations]

    def entry_names(contest: Contest) -> list[str]:
        return [name_of[id(entry)] for entry in contest.entries]

    def first_lines(contest: Contest) -> Any:
        place = place_of[id(contest.best)]
        groups = {"speaker": speakers[place], "culture": cultures[place]}
        return headline(contest, entry_names(contest), published.get(place, ()), groups, again[place])

    headlines = [first_lines(contest) for contest in held]
    album = Album()
    drawn = list(dict.fromkeys(place_of[id(entry)] for entry in _best_first(held)))[:MOST_DRAWN]
    sections: list[Details] = [
        details(place, names[place], evaluations[place], seeds[place], losses[place], speakers[place],
                min(main[place]), album)
        for place in drawn
    ]  # fmt: skip
    by_name = dict(zip(names, evaluations, strict=True))
    tables = {
        "results": data_tables.results_table(evaluations, names, main),
        "pairs": data_tables.pairs_table(held, [one.title for one in headlines], name_of),
        "groups": data_tables.groups_table(
            {name: [*speakers[k], *cultures[k]] for k, name in enumerate(names)},
            {name: main[k] for k, name in enumerate(names)},
            entry_names(held[0])[0],
        ),
        "classes": data_tables.classes_table(
            {name: class_scores(own) for name, own in by_name.items()}, entry_names(held[0])[0]
        ),
        "clips": data_tables.clips_table(dict(zip(names, losses, strict=True)), source, entry_names(held[0])[0]),
        "missing": data_tables.failures_table(evaluations, names, source),
    }
    return _fill(
        headlines=headlines[:MOST_HEADLINES],
        further=len(headlines) - len(headlines[:MOST_HEADLINES]),
        rankings=[
            _ranking(contest, one.title, entry_names(contest), album)
            for contest, one in zip(held, headlines, strict=True)
            if len(contest.entries) > 1
        ][:MOST_RANKINGS],
        sections=sections,
        undrawn=len(evaluations) - len(drawn),
        warnings=_warnings(evaluations, names),
        provenance=[provenance(n, e.result, c) for n, e, c in zip(names, evaluations, again, strict=True)],
        losses={task: LOSSES[task] for task in dict.fromkeys(e.result.first.task for e in evaluations)},
        tables={name: table for name, table in tables.items() if table["rows"]},
        counts=(len(evaluations), sum(len(evaluation.result.runs) for evaluation in evaluations)),
    )


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
    alike = "; ".join(f"{names[a]} to {names[b]}" for a, b in contest.alike) or "none"
    left = f" The best {MOST} of {len(names)}." if len(names) > MOST else ""
    caption = f"{title}, with 95 % intervals.{left} Bars at the right join systems that are not told apart: {alike}."
    headings = ["system", base_name(contest.metric), "95 % interval", "mean rank over folds"]
    return album.picture(charts.ranking(contest, names), f"Systems ranked by {title}", caption, headings, rows)


def _warnings(evaluations: Sequence[Evaluation], names: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """(kind, text, the systems with the runs that were warned)."""
    found: dict[tuple[str, str], list[str]] = {}
    for evaluation, name in zip(evaluations, names, strict=True):
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
    own = {"css": Markup(css), "script": Markup(script), "policy": policy, "data": script_json(told["tables"])}
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
