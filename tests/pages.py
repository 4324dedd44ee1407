"""HTML pages as tests read them: tags with their attributes, and words."""

import re
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def text(html: str) -> str:
    """The words of a page, in one line."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).replace("\N{NARROW NO-BREAK SPACE}", " ").split())
