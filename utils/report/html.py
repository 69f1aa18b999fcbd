"""An executed notebook as one article that loads nothing from a network, and the index of them.

What a notebook can say to its article: the cell tag ``finding`` puts a text or an output above
everything else, ``remove-cell`` and ``hide-code`` leave something out, and the output metadata
``caption`` (`utils.notebook.show`) becomes a numbered caption. The markup stands in ``templates``.
"""

import base64
import html
import io
import re
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from PIL import Image

from utils import plan
from utils.files import write_aside

TEMPLATES = Path(__file__).parent / "templates"
MAX_BYTES = 10_000_000
_SMALL_IMAGE, _LARGE_IMAGE = 40_000, 150_000  # bytes; above, a PNG becomes a WebP, and with loss
_LONG_TEXT = 30  # lines; above, printed text is folded
_BAR = re.compile(r"\d+%\||\bit/s\]|━|\d+/\d+ \[")  # tqdm's and Keras' progress bars
_OBJECT = re.compile(r"^\[?<[\w.]+[ :(].*>\]?$", re.S)  # <Axes: ...> and the like
_NUMBER = re.compile(r"^([-+−]?[\d,.\u202f ]*\d\s*(%|[kMG])?(\s*[±(\[–].*)?|[–-]|NaN|nan|None|)$")
_DROPPED = ("script", "link", "iframe", "object", "embed", "base", "meta", "form", "audio", "video")


class ArticleExporter(HTMLExporter):
    """nbconvert exporter: ``jupyter nbconvert --to utils.report.html.ArticleExporter``."""

    def __init__(self, **settings):
        places = {"template_name": "article", "extra_template_basedirs": [str(TEMPLATES)]}
        super().__init__(**places, exclude_anchor_links=True, **settings)
        self.register_filter("printed", _printed)
        self.register_filter("data_uri", _data_uri)

    def from_notebook_node(self, nb, resources=None, **settings):
        """Render a notebook; ``resources`` may hold ``subtitle`` and ``source``."""
        resources = dict(resources or {})
        name = resources.get("source") or resources.get("metadata", {}).get("name", "notebook")
        cells, resources = super().from_notebook_node(nb, resources, **settings)
        article = {"subtitle": resources.get("subtitle", ""), "source": name, **_article(cells)}
        article["title"] = article["title"] or Path(name).stem
        return self.environment.get_template("page.html.j2").render(article=article), resources


def write_article(notebook: Path, output: Path, subtitle: str = "") -> None:
    """Write the article of an executed notebook, whole or not at all.

    `subtitle` is the line under the title, such as backbone and protocol. A page of more than
    10 MB is a ValueError.
    """
    content = nbformat.read(notebook, as_version=4)
    given = content.metadata.get("papermill", {}).get("input_path") or Path(notebook).name
    resources = {"subtitle": subtitle, "source": Path(given).name}
    text, _ = ArticleExporter().from_notebook_node(content, resources)
    size, most = len(text.encode()) / 1e6, MAX_BYTES / 1e6
    if size > most:
        told = f"{size:.1f} MB, expected at most {most:.0f}; show fewer or smaller pictures"
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
    _merge_code(body)
    heading = body.find("h1")
    paragraph = next((p for p in body.find_all("p") if p.get_text(strip=True)), None)
    title = heading.extract().get_text(" ", strip=True) if heading else ""
    sentence = ""
    if paragraph is not None:
        paragraph["class"] = ["lead"]  # set larger
        text = " ".join(paragraph.get_text(" ", strip=True).split())
        sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[0]
    parts = {"title": title, "sentence": sentence, "finding": "".join(findings)}
    return parts | {"contents": _contents(body), "body": str(body)}


def _printed(text: str | None) -> str:
    """Printed text: last state of overwritten lines, no progress bars, folded when long."""
    lines = [line.rstrip("\r").split("\r")[-1] for line in strip_ansi(text or "").split("\n")]
    text = "\n".join(line.rstrip() for line in lines if not _BAR.search(line)).strip("\n")
    if not text.strip() or _OBJECT.match(text):
        return ""
    block = f"<pre>{html.escape(text)}</pre>"
    title = f"Printed text, {len(lines)} lines"
    folded = f"<details><summary>{title}</summary>{block}</details>"
    return folded if len(lines) > _LONG_TEXT else block


def _data_uri(content: str, kind: str) -> str:
    """A picture inside the page; a large PNG becomes a WebP, with loss only if it must."""
    raw = content.encode() if kind == "image/svg+xml" else base64.b64decode(content)
    for lossless, least in ((True, _SMALL_IMAGE), (False, _LARGE_IMAGE)):
        if kind in ("image/png", "image/webp") and len(raw) > least:
            file, picture = io.BytesIO(), Image.open(io.BytesIO(raw))
            picture.save(file, "WEBP", lossless=lossless, quality=85, method=2)
            if file.tell() < len(raw):
                kind, raw = "image/webp", file.getvalue()
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def _clean(soup: BeautifulSoup) -> None:
    """Take out whatever would load something or leads nowhere."""
    for element in [*soup.find_all(_DROPPED), *soup.select("style[scoped]")]:
        element.decompose()
    for image in soup.find_all(["img", "source", "image"]):
        while image is not None and not (image.get("src") or "").startswith("data:"):
            parent = image.parent  # a badge goes with its link and its paragraph
            image.decompose()
            empty = parent.name in ("a", "p") and not parent.get_text(strip=True)
            image = parent if empty and not parent.find("img") else None
    for element in soup.find_all(True):
        if element.name == "style" and re.search(r"url\(|@import", element.string or ""):
            element.string = ""
        loads = [name for name in element.attrs if name.startswith("on") or name == "srcset"]
        for name in loads + ["style"] * ("url(" in element.get("style", "")):
            del element[name]
    for link in soup.find_all("a", href=True):
        if link["href"].split("#")[0].endswith(".ipynb") or "javascript:" in link["href"]:
            link.unwrap()  # notebooks lie elsewhere


def _merge_code(soup: BeautifulSoup) -> None:
    """Fold cells that follow each other, with nothing shown between them, into one."""
    for fold in soup.select("details.code"):
        before = fold.find_previous_sibling()
        same = before is not None and before.get("class") == ["code"]
        if same and before.summary.text == fold.summary.text:
            before.pre.extend(["\n", *fold.pre.contents])
            fold.decompose()


def _align(soup: BeautifulSoup, table) -> None:
    """Numbers to the right, no borders, and not pandas' column 0, 1, 2 ... of row numbers."""
    table.attrs = {k: v for k, v in table.attrs.items() if k in ("id", "class")}
    rows = [row.find_all(["td", "th"]) for row in table.find_all("tr")]
    for row in table.find_all("tr"):
        row.attrs.pop("style", None)
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
    if not table.find_parent(class_="scroll"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll"}))


def _contents(body: BeautifulSoup) -> list[dict]:
    """Give every heading an id and list them: h2 with the h3 below."""
    entries, used = [], set()
    for heading in body.find_all(["h1", "h2", "h3"]):
        heading.name = "h3" if heading.name == "h3" else "h2"
        text = heading.get_text(" ", strip=True)
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        while name in used:
            name += "-2"
        used.add(name)
        heading["id"] = name
        inside = entries[-1]["inner"] if heading.name == "h3" and entries else entries
        inside.append({"id": name, "text": text, "inner": []})
    return entries if len(entries) > 1 else []


def page_head(path: Path) -> dict[str, str]:
    """Title (else the file's name) and first sentence of a page."""
    with open(path, encoding="utf-8", errors="replace") as file:
        head = BeautifulSoup(file.read(20_000).split("<style")[0], "html.parser")
    about = head.find("meta", attrs={"name": "description"}) or {}
    title = head.title.get_text(strip=True) if head.title else path.stem
    return {"title": title, "sentence": about.get("content", "")}


def write_index(folder: Path | str = "reports") -> Path:
    """Write ``index.html`` for the pages in the sub-folders of `folder`; the path of it."""
    folder, groups, first = Path(folder), [], ("06", "report")
    purposes = {name: plan.load_profile(name).purpose for name in plan.names()}
    purposes["study"] = "The study on real faces, as published with this repository."
    # The published study first, then the profiles; in each the report first.
    for sub in sorted(folder.glob("*/"), key=lambda path: (path.name != "study", path.name)):
        pages = sorted(sub.glob("*.html"), key=lambda p: (not p.name.startswith(first), p.name))
        rows = [{"href": f"{sub.name}/{page.name}", **page_head(page)} for page in pages]
        if rows:
            purpose = purposes.get(sub.name, "")
            groups.append({"name": sub.name, "purpose": purpose, "pages": rows})
    text = ArticleExporter().environment.get_template("pages.html.j2").render(groups=groups)
    with write_aside(folder / "index.html") as aside:
        aside.write_text(text, encoding="utf-8")
    return folder / "index.html"
