"""``reports/index.html``: the way to every page."""

import sys
from html.parser import HTMLParser
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from utils import profiles
from utils.files import write_aside

_TEMPLATES = Path(__file__).parent / "templates" / "article"
_STUDY = "The study on real faces, as published with this repository."


class _Head(HTMLParser):
    """Title and description of a page."""

    def __init__(self):
        super().__init__()
        self.title, self.sentence, self._in_title = "", "", False

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self._in_title = tag == "title"
        if tag == "meta" and values.get("name") == "description":
            self.sentence = values.get("content") or ""

    def handle_endtag(self, tag):
        self._in_title = False

    def handle_data(self, data):
        if self._in_title:
            self.title += data


def page_head(path: Path) -> tuple[str, str]:
    """Title and first sentence of a page (its own file name if it has no title)."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(20_000)  # both stand before the style sheet
    head = _Head()
    head.feed(text.split("<style", 1)[0])
    return head.title.strip() or path.stem, head.sentence


def _purpose(name: str) -> str:
    if name == "study":
        return _STUDY
    return profiles.load_profile(name).purpose if name in profiles.names() else ""


def write_index(folder: Path | str = "reports") -> Path:
    """Write ``index.html`` for the pages in the sub-folders of `folder`; the path of it."""
    folder = Path(folder)
    groups = []
    # The published study first, then the profiles; in each the report first.
    for sub in sorted(folder.glob("*/"), key=lambda path: (path.name != "study", path.name)):
        pages = sorted(sub.glob("*.html"), key=lambda p: (not p.name.startswith("06"), p.name))
        rows = []
        for page in pages:
            title, sentence = page_head(page)
            rows.append({"href": f"{sub.name}/{page.name}", "title": title, "sentence": sentence})
        if rows:
            groups.append({"name": sub.name, "purpose": _purpose(sub.name), "pages": rows})
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=False)
    text = environment.get_template("pages.html.j2").render(groups=groups)
    with write_aside(folder / "index.html") as aside:
        aside.write_text(text, encoding="utf-8")
    return folder / "index.html"


if __name__ == "__main__":
    print(write_index(*sys.argv[1:2]))
