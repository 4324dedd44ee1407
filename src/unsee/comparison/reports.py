"""What a comparison may be reported as, by the command that asks for it: the headline, and files by name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unsee.comparison import PAGES, frontier_page, page, search_page, sweep_page, verdict
from unsee.comparison.search import build_search, chosen_yaml
from unsee.errors import UserError


@dataclass(frozen=True)
class Report:
    """The headline, and the text of every file."""

    headline: str
    files: dict[str, str]


def make_report(kind: str, comparison: dict[str, Any]) -> Report:
    """A comparison (`summary.build_comparison`) as one of PAGES.

    Raises:
        UserError: no such report, or a comparison that cannot be reported so.
    """
    if kind not in PAGES:
        raise UserError(f"report {kind!r} is unknown; choose one of {', '.join(PAGES)}")
    if kind == "search":
        return _search(comparison)
    headline, render = _PLAIN[kind]
    return Report(headline(comparison), {PAGES[kind]: render(comparison)})


def _search(comparison: dict[str, Any]) -> Report:
    found = build_search(comparison)
    headline = search_page.headline(found)
    told = json.dumps({**found, "headline": headline}, indent=2, ensure_ascii=False)
    page_of_it = search_page.render(comparison, found)
    return Report(headline, {PAGES["search"]: page_of_it, "search.json": told, "chosen.yaml": chosen_yaml(found)})


_Told = Callable[[dict[str, Any]], str]
_PLAIN: dict[str, tuple[_Told, _Told]] = {
    "compare": (verdict.headline, page.render),
    "sweep": (sweep_page.headline, sweep_page.render),
    "frontier": (verdict.headline, frontier_page.render),
}
