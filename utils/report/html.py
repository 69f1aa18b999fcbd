"""An executed notebook as one article that loads nothing from a network, and the index of them.

The cell tag ``finding`` puts a text or an output above everything else, ``remove-cell`` and
``hide-code`` leave something out; `utils.notebook.show` says what stands around a figure or table.
"""

import base64
import io
import re
import zlib
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from PIL import Image

from utils import plan
from utils.files import read_json, write_aside

TEMPLATES = Path(__file__).parent / "templates"
MAX_BYTES = 10_000_000
MEAN_MAPS = "figures/mean_maps.png"
_BAR = re.compile(r"\d+%\||\bit/s\]|━|\d+/\d+ \[")  # tqdm's and Keras' progress bars
_OBJECT = re.compile(r"^\[?<[\w.]+[ :(].*>\]?$", re.S)  # <Axes: ...> and the like
_NUMBER = re.compile(
    r"^([-+−]?[\d,.\u202f ]*\d\s*(%|[kMG]|years|points)?(\s*[±(\[–].*)?|[–-]|NaN|nan|None|)$"
)
_JOINED = re.compile(r"(?<=,) (?=[^[]*\])|(?<=\]) (?=[a-z]{1,5}$)")  # in and behind an interval
_DROPPED = "script style link iframe object embed base meta form audio video".split()


class ArticleExporter(HTMLExporter):
    """nbconvert exporter: ``jupyter nbconvert --to utils.report.html.ArticleExporter``."""

    def __init__(self, **settings):
        places = {"template_name": "article", "extra_template_basedirs": [str(TEMPLATES)]}
        super().__init__(**places, exclude_anchor_links=True, **settings)
        for function in (_printed, _data_uri, _drawing):
            self.register_filter(function.__name__[1:], function)

    def from_notebook_node(self, nb, resources=None, **settings):
        """Render a notebook; ``resources`` may hold ``subtitle`` and ``source``."""
        resources = dict(resources or {})
        name = resources.get("source") or resources.get("metadata", {}).get("name", "notebook")
        cells, resources = super().from_notebook_node(nb, resources, **settings)
        article = {"subtitle": resources.get("subtitle", ""), "source": name, **_article(cells)}
        return self.environment.get_template("page.html.j2").render(article=article), resources


def write_article(notebook: Path, output: Path, subtitle: str = "") -> None:
    """Write the article of an executed notebook; one of more than 10 MB is a ValueError.

    `subtitle` is the line under the title, such as backbone and protocol.
    """
    content = nbformat.read(notebook, as_version=4)
    given = content.metadata.get("papermill", {}).get("input_path") or Path(notebook).name
    resources = {"subtitle": subtitle, "source": Path(given).name}
    text, _ = ArticleExporter().from_notebook_node(content, resources)
    if (size := len(text.encode())) > MAX_BYTES:
        told = f"{size / 1e6:.1f} MB, expected at most {MAX_BYTES / 1e6:.0f}; show fewer pictures"
        raise ValueError(f"{Path(output).name} has {told}")
    with write_aside(output) as aside:
        aside.write_text(text, encoding="utf-8")


def _article(cells: str) -> dict:
    """The parts of a page, from the HTML of its cells."""
    body = BeautifulSoup(cells, "html.parser")
    _clean(body)
    for table in body.find_all("table"):
        _align(body, table)
    findings = [found.extract().decode_contents() for found in body.select(".is-finding")]
    heading = body.find("h1")
    title = heading.extract().get_text(" ", strip=True) if heading else ""
    text = " ".join(body.p.get_text().split()) if body.p else ""
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[0]
    parts = {"title": title, "sentence": sentence, "finding": "".join(findings)}
    return parts | {"contents": _contents(body), "body": str(body)}


def _printed(text: str | None) -> str:
    """Printed text: the last state of overwritten lines, no progress bars and no objects."""
    lines = [line.rstrip("\r").split("\r")[-1] for line in strip_ansi(text or "").split("\n")]
    text = "\n".join(line.rstrip() for line in lines if not _BAR.search(line)).strip("\n")
    return "" if _OBJECT.match(text) else text


def _data_uri(content: str, kind: str) -> str:
    """A picture inside the page; a large PNG becomes a WebP."""
    raw = base64.b64decode(content)
    if kind == "image/png" and len(raw) > 40_000:
        file = io.BytesIO()
        Image.open(io.BytesIO(raw), formats=["PNG"]).save(file, "WEBP", quality=85, method=2)
        if file.tell() < len(raw):
            kind, raw = "image/webp", file.getvalue()
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def _drawing(content: str) -> str:
    """An SVG from its size on, as part of a page: text stays text, names are its own."""
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", content, flags=re.S)
    _, head, drawn = re.split(r"<svg\b([^>]*)>", drawn, maxsplit=1)
    size = "".join(re.findall(r' (?:viewBox|width)="[^"]*"', head))
    # Nobody sees a hundredth of a pixel; a text between tags keeps its digits.
    drawn = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), drawn)
    mark = f"d{zlib.crc32(content.encode()):x}-"
    return f"{size}>" + re.sub(r'( id="|href="#|url\(#)', rf"\1{mark}", drawn)


def _clean(soup: BeautifulSoup) -> None:
    """Take out whatever would load something or leads nowhere."""
    for element in soup.find_all(_DROPPED):
        element.decompose()
    for image in soup.find_all(["img", "source", "image"]):
        if not (image.get("src") or image.get("xlink:href", "")).startswith("data:"):
            image.decompose()
    for around in soup.select("a, p"):  # a badge goes with its link and its paragraph
        if not (around.get_text(strip=True) or around.find(["img", "svg"])):
            around.decompose()
    for element in soup.find_all(True):
        loads = [name for name in element.attrs if name.startswith("on") or name == "srcset"]
        for name in loads + ["style"] * ("url(" in element.get("style", "")):
            del element[name]
    for link in soup.select('a[href*=".ipynb"], a[href*="javascript:"]'):
        link.unwrap()  # notebooks lie elsewhere


def _align(soup: BeautifulSoup, table) -> None:
    """Numbers to the right, heads with a scope, and no column of pandas' row numbers."""
    table.attrs = {k: v for k, v in table.attrs.items() if k in ("id", "class")}
    rows = [row.find_all(["td", "th"]) for row in table.find_all("tr")]
    for place, column in enumerate(zip(*rows, strict=False)):
        texts = [cell.get_text(strip=True) for cell in column]
        values = [cell.get_text(strip=True) for cell in column if cell.name == "td"]
        counted = place == 0 and texts == ["", *map(str, range(len(rows) - 1))] and not values
        number = any(values) and all(map(_NUMBER.match, values))
        for cell in column:
            if counted:
                cell.decompose()
            elif number:
                cell["class"] = [*cell.get("class", []), "number"]
                for text in cell.find_all(string=re.compile(r"\[")):  # an interval stays together
                    text.replace_with(re.sub(_JOINED, "\N{NO-BREAK SPACE}", text))
    for row in table.find_all("tr"):
        row.attrs.pop("style", None)
        for place, cell in enumerate(row.find_all(["td", "th"])):
            # The first cell of a row is its head, unless it is a number.
            if cell.name == "th" or place == 0 and "number" not in cell.get("class", []):
                cell.name, cell["scope"] = "th", "col" if row.parent.name == "thead" else "row"
    box = {"class": "scroll", "tabindex": "0", "role": "group", "aria-label": "Table"}
    table.wrap(soup.new_tag("div", attrs=box))


def _contents(body: BeautifulSoup) -> list[dict]:
    """Give every heading an id and list them with their levels, h2 or h3."""
    entries, used = [], {"the-article"}
    for heading in body.find_all(["h1", "h2", "h3"]):
        heading.name = "h3" if heading.name == "h3" else "h2"
        text = heading.get_text(" ", strip=True)
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        while name in used:
            name += "-2"
        used.add(name)
        heading["id"] = name
        entries.append({"id": name, "text": text, "level": heading.name})
    return entries if len(entries) > 1 else []


def page_head(path: Path) -> dict[str, str]:
    """Title (else the file's name) and first sentence of a page."""
    head = BeautifulSoup(path.read_text("utf-8").split("<style")[0], "html.parser")
    about = head.find("meta", attrs={"name": "description"}) or {}
    title = head.title.get_text(strip=True) if head.title else path.stem
    return {"title": title, "sentence": about.get("content", "")}


def write_index(folder: Path | str = "reports") -> Path:
    """Write ``index.html`` for the pages below `folder`, the findings of ``study`` first."""
    folder, groups, first = Path(folder), [], ("06", "report")
    told, picture = (folder / "study" / name for name in ("tables/findings.json", MEAN_MAPS))
    findings = next(iter(read_json(told).values()), []) if told.is_file() else []
    purposes = {name: plan.load_profile(name).purpose for name in plan.names()}
    # The published study first, then the profiles; in each the report first.
    for sub in sorted(folder.glob("*/"), key=lambda path: (path.name != "study", path.name)):
        pages = sorted(sub.glob("*.html"), key=lambda p: (not p.name.startswith(first), p.name))
        rows = [{"href": f"{sub.name}/{page.name}", **page_head(page)} for page in pages]
        groups += [{"name": sub.name, "purpose": purposes.get(sub.name, ""), "pages": rows}]
    shown = {"groups": groups, "findings": findings, "picture": picture.is_file() and MEAN_MAPS}
    text = ArticleExporter().environment.get_template("pages.html.j2").render(shown)
    with write_aside(folder / "index.html") as aside:
        aside.write_text(text, encoding="utf-8")
    return folder / "index.html"
