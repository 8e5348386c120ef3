"""The top of the page: the question, the answers, how sure they are, on what they rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pytest_codexbench.matrix import Block, rate_text, size_text
from pytest_codexbench.reports.comparisons import FAIL, MARGINS, PASS, Comparison
from pytest_codexbench.reports.findings import ENOUGH, Answer, answers, certainty, findings, title, verdict_words
from pytest_codexbench.reports.html.look import Look
from pytest_codexbench.reports.html.markup import Markup, element
from pytest_codexbench.reports.html.table import figure, scrolling
from pytest_codexbench.reports.outcomes import FAILED
from pytest_codexbench.reports.wording import block_words, count, environment_words, spread, times

# Ratios at which the heat map changes its colour: halfway to twice as fast, then as slow as the margins.
STEPS = (0.5, 0.8, 1.0, *MARGINS, 4.0)
SIGNS = {PASS: ("✓", "pass"), FAIL: ("✗", "fail")}
NO_SIGN = ("?", "open")


def header(look: Look) -> Markup:
    """The question, and what answers there are."""
    told = look.told
    asked = answers(told)
    first = asked[0].standing.kind if asked else None
    grounds = [_term(name, text) for name, text in _grounds(look)]
    return element(
        "header",
        element("p", _made_by(look), class_="above"),
        element("h1", title(told)),
        cards(look, first, "h2") if first else sentences(findings(told)),
        element("dl", grounds, class_="grounds") if grounds else None,
    )


def cards(look: Look, kind: str, heading: str) -> Markup:
    """The answers of one experiment, each below a heading of this level."""
    asked = [answer for answer in answers(look.told) if answer.standing.kind == kind]
    return element("div", [_answer(look, one, heading) for one in asked], class_="answers")


def sentences(told: Sequence[str]) -> Markup | None:
    """Sentences as a list; None without any."""
    if not told:
        return None
    return element("ul", [element("li", sentence) for sentence in told], class_="findings")


def _made_by(look: Look) -> str:
    run = look.told.run
    words = ["codexbench", run.get("id"), f"matrix {run['matrix']}" if run.get("matrix") else None]
    return " · ".join(str(word) for word in words if word)


def _answer(look: Look, answer: Answer, heading: str) -> Markup:
    standing = answer.standing
    return element(
        "article",
        element(heading, look.system(standing.subject), " against ", look.system(standing.reference)),
        element("p", answer.word, class_="word"),
        _strip(look, standing.comparisons),
        [element("p", sentence) for sentence in answer.sentences],
        class_=f"answer {answer.tone}",
    )


def _strip(look: Look, every: Sequence[Comparison]) -> Markup | None:
    """One square a scenario, with the verdict of the first margin."""
    if len(every) == 1 or not any(one.word for one in every):
        return None
    squares = []
    for one in every:
        sign, name = sign_of(one)
        told = f"{block_words(one.block)}: {verdict_words(one)}"
        squares.append(
            element("li", look.link(one.subject, element("span", sign, title=told, class_=name), label=told))
        )
    return element("ul", squares, class_="strip")


def sign_of(comparison: Comparison) -> tuple[str, str]:
    """The verdict of the first margin as a sign, and what it is called in the style; a dot where there is none."""
    if not comparison.word:
        return "·", "none"
    return SIGNS.get(comparison.verdict(MARGINS[0]) or "", NO_SIGN)


def _term(name: str, content: Markup | str) -> Markup:
    return element("div", element("dt", name), element("dd", content))


def _grounds(look: Look) -> Iterator[tuple[str, Markup | str]]:
    """How sure, and on what."""
    told = look.told
    ratios = [one.ratio for one in told.compared if one.ratio and one.judged]
    if sure := dict.fromkeys(certainty(ratio) for ratio in ratios if ratio.level is not None):
        yield "How sure", "Ratios of paired rounds, each with its " + ", ".join(sure)
    elif ratios:
        yield "How sure", f"Not at all: ranges of fewer than {ENOUGH} rounds, of which nothing is claimed"
    if told.measured:
        rounds = sum(len(outcome.rounds) for outcome in told.measured)
        failed = sum(outcome.status == FAILED for outcome in told.measured)
        wrong = f", {failed} with failures" if failed else ""
        yield "On what", f"{count(rounds, 'round')} in {count(len(told.measured), 'cell')}{wrong}"
    if isinstance(versions := told.run.get("versions"), Mapping) and versions:
        yield "Systems", ", ".join(f"{name}: {version}" for name, version in versions.items())
    if links := dict.fromkeys(rate_text(outcome.cell.shape.link) for outcome in told.measured):
        yield "Links", ", ".join(f"{link}/s a node" if link else "not limited" for link in links)
    for place in environment_words(told.measured)[:2]:
        yield "Where", place
    if isinstance(started := told.run.get("started_at"), str):
        yield "When", element("time", started[:16].replace("T", " "), datetime=started)


# --- the heat map -----------------------------------------------------------------------------------------------------


def heat_maps(look: Look, kind: str) -> list[Markup]:
    """One a system: its ratios over the matrix."""
    every = [one for one in look.told.compared if one.subject.kind == kind]
    pairs = dict.fromkeys((one.subject.system, one.reference.system) for one in every)
    return [
        _heat_map(look, [one for one in every if (one.subject.system, one.reference.system) == pair]) for pair in pairs
    ]


def _heat_map(look: Look, every: Sequence[Comparison]) -> Markup:
    sizes = sorted({one.block.size for one in every})
    several = len({one.block.link for one in every}) > 1
    rows: dict[str, dict[int, Comparison]] = {}
    for one in every:
        rows.setdefault(_shape_words(one.block, several), {})[one.block.size] = one
    head = element(
        "tr",
        element("td", ""),
        [element("th", size_text(size), scope="col") for size in sizes],
    )
    body = [
        element("tr", element("th", words, scope="row"), [_heat(look, row.get(size)) for size in sizes])
        for words, row in rows.items()
    ]
    caption = element("caption", look.system(every[0].subject.system), f" / {every[0].reference.system}")
    return scrolling(element("table", caption, element("thead", head), element("tbody", body), class_="heat"))


def _shape_words(block: Block, with_link: bool) -> str:
    shape = f"{block.nodes} nodes, {count(block.seeders, 'seeder')}" if block.kind == "download" else "2 nodes"
    return f"{shape}, {rate_text(block.link) or 'no limit'}" if with_link else shape


def _heat(look: Look, comparison: Comparison | None) -> Markup:
    if comparison is None:
        return element("td", "", class_="missing")
    ratio = comparison.ratio
    if ratio is None:
        return element("td", look.link(comparison.subject, "no ratio"), class_="missing")
    text = times(ratio.median) if math.isfinite(ratio.median) else "∞"
    return element(
        "td",
        look.link(
            comparison.subject,
            element("strong", figure(ratio.median, text)),
            element("small", spread(ratio, "∞")),
            element("small", comparison.word or "no verdict"),
        ),
        # a colour would be a judgement
        class_=f"r{sum(ratio.median > step for step in STEPS)}" if comparison.judged else "missing",
    )


def heat_key() -> Markup:
    """What the colours of the heat map mean."""
    names = [f"up to {STEPS[0]:g}x", *(f"to {step:g}x" for step in STEPS[1:]), f"over {STEPS[-1]:g}x"]
    return element(
        "ul",
        [element("li", element("span", "", class_=f"patch r{index}"), " ", name) for index, name in enumerate(names)],
        class_="key",
    )
