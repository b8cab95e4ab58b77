"""An HTML page as a test looks at it: its elements, in order, with all their text."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "path", "circle", "line", "polyline"}  # of those that the pages use


@dataclass
class Element:
    """`text` is that of the element and all in it."""

    tag: str
    attributes: dict[str, str | None]
    inside: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Elements in this one, in order; `class_` names one of an element's classes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        found = []
        for element in self.inside:
            if tag in ("", element.tag) and all(element.has(*pair) for pair in wanted.items()):
                found.append(element)
            found += element.all(tag, **attributes)
        return found

    def has(self, name: str, value: str) -> bool:
        found = self.attributes.get(name) or ""
        return value in found.split() if name == "class" else value == found


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data


def read_html(page: str) -> Element:
    """The page as one element; fails where tags do not close in their order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is not closed"
    return reader.open[0]
