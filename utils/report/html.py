"""An executed notebook as one self-contained article that loads nothing from a network.

What the notebook can say to the article:

- cell tag ``finding``: its text or output comes first, above everything else;
- output metadata ``caption`` (see `utils.report.show`), or a markdown cell right after the output
  that begins with ``Figure:`` or ``Table:``: the caption;
- cell tags ``remove-cell``, ``hide-code``, ``hide-output``: left out.
"""

import base64
import html
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from utils.files import write_aside

TEMPLATES = Path(__file__).parent / "templates"
MAX_BYTES = 10_000_000
_SMALL_IMAGE = 40_000  # bytes; above, a PNG is stored as WebP
_LARGE_IMAGE = 150_000  # bytes; above, with loss
_LONG_TEXT = 30  # lines; above, printed text is folded
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CAPTION = re.compile(r"^[*_\s]*(figure|table|caption)\s*\d*\s*[.:]\s*", re.I)
_BAR = re.compile(r"\d+%\||\bit/s\]|━|\d+/\d+ \[")  # tqdm's and Keras' progress bars
_DROPPED = ("script", "link", "iframe", "object", "embed", "base", "meta", "form", "audio", "video")
_WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass
class Article:
    """What the template needs."""

    title: str
    subtitle: str = ""
    sentence: str = ""
    source: str = ""
    finding: str = ""
    body: str = ""
    contents: list[dict] = field(default_factory=list)


class ArticleExporter(HTMLExporter):
    """nbconvert exporter: ``jupyter nbconvert --to utils.report.html.ArticleExporter``."""

    def __init__(self, **settings):
        super().__init__(
            template_name="article", extra_template_basedirs=[str(TEMPLATES)], **settings
        )

    def from_notebook_node(self, nb, resources=None, **settings):
        """Render a notebook; ``resources`` may hold ``subtitle`` and ``source``."""
        resources = dict(resources or {})
        name = resources.get("source") or resources.get("metadata", {}).get("name", "notebook")
        resources["article"] = build_article(nb, resources.get("subtitle", ""), name)
        return super().from_notebook_node(nb, resources, **settings)


def write_article(notebook: Path, output: Path, subtitle: str = "") -> None:
    """Write the article of an executed notebook.

    Parameters
    ----------
    notebook : Path
        Executed notebook.
    output : Path
        The HTML file; it appears when it is whole.
    subtitle : str
        Line under the title, such as backbone and protocol.

    Raises
    ------
    ValueError
        If the page is larger than 10 MB.
    """
    content = nbformat.read(notebook, as_version=4)
    given = content.metadata.get("papermill", {}).get("input_path") or Path(notebook).name
    resources = {"subtitle": subtitle, "source": Path(given).name}
    text, _ = ArticleExporter().from_notebook_node(content, resources)
    size = len(text.encode())
    if size > MAX_BYTES:
        raise ValueError(
            f"{Path(output).name} has {size / 1e6:.1f} MB, expected at most {MAX_BYTES / 1e6:.0f}; "
            "show fewer or smaller pictures"
        )
    with write_aside(output) as aside:
        aside.write_text(text, encoding="utf-8")


def build_article(notebook, subtitle: str = "", source: str = "notebook") -> Article:
    """Turn the cells of a notebook into the parts of an article."""
    writer = _Writer()
    cells = [cell for cell in notebook.cells if not _tags(cell) & {"remove-cell", "remove_cell"}]
    number = 0
    while number < len(cells):
        number += writer.cell(cells, number)
    writer.close_code()
    body = BeautifulSoup("\n".join(writer.parts), "html.parser")
    finding = BeautifulSoup("\n".join(writer.findings), "html.parser")
    for soup in (body, finding):
        _clean(soup)
    heading = body.find("h1")
    title = heading.get_text(" ", strip=True) if heading else Path(source).stem
    if heading:
        heading.decompose()
    for extra in body.find_all("h1"):
        extra.name = "h2"
    sentence = _first_sentence(body)
    contents = _contents(body)
    return Article(title, subtitle, sentence, source, str(finding), str(body), contents)


def _tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


class _Writer:
    """Collects the HTML of cell after cell, and counts figures and tables."""

    def __init__(self):
        self.parts: list[str] = []
        self.findings: list[str] = []
        self.code: list[str] = []
        self.label = "Code"
        self.figures = 0
        self.tables = 0

    def cell(self, cells, number: int) -> int:
        """Add one cell; the number of cells that it used up."""
        cell = cells[number]
        if cell.cell_type == "markdown":
            self.close_code()
            target = self.findings if "finding" in _tags(cell) else self.parts
            target.append(_markdown(cell))
            return 1
        if cell.cell_type != "code":
            return 1
        following = cells[number + 1] if number + 1 < len(cells) else None
        caption = ""
        if following is not None and following.cell_type == "markdown":
            if _CAPTION.match(following.source) and self._pictures(cell):
                caption = _CAPTION.sub("", following.source, count=1).strip().rstrip("*_")
        self._code_cell(cell, caption)
        return 2 if caption else 1

    @staticmethod
    def _pictures(cell) -> bool:
        kinds = ("image/png", "image/jpeg", "image/svg+xml", "text/html")
        return any(kind in output.get("data", {}) for output in cell.outputs for kind in kinds)

    def _code_cell(self, cell, caption: str) -> None:
        tags = _tags(cell)
        given = tags & {"parameters", "injected-parameters"}
        label = "Parameters" if given else "Set-up" if tags & {"setup", "set-up"} else "Code"
        if label != self.label:
            self.close_code()
        if cell.source.strip() and not tags & {"hide-code", "hide-input", "remove_input"}:
            self.label = label
            self.code.append(cell.source.strip())
        if tags & {"hide-output", "remove_output"}:
            return
        caption = caption or cell.metadata.get("caption", "")
        # The text below a figure in the notebook is its caption here.
        outputs = [one for one in cell.outputs if not _repeats(one)]
        if self._pictures(cell):  # the value of a plot call tells a reader nothing
            outputs = [one for one in outputs if set(one.get("data", {})) != {"text/plain"}]
        shown = [text for output in outputs if (text := self._output(output, caption))]
        if shown:
            self.close_code()
            (self.findings if "finding" in tags else self.parts).extend(shown)

    def close_code(self) -> None:
        """Write the code collected so far, folded."""
        if self.code:
            text = highlight("\n\n".join(self.code), PythonLexer(), HtmlFormatter(nowrap=True))
            self.parts.append(
                f"<details><summary>{self.label}</summary>"
                f"<pre><code>{text.rstrip()}</code></pre></details>"
            )
        self.code, self.label = [], "Code"

    def _output(self, output, caption: str) -> str:
        if output.output_type == "stream":
            return _printed(output.text) if output.name == "stdout" else ""
        if output.output_type == "error":
            text = _ESCAPES.sub("", "\n".join(output.get("traceback", [])[-3:]))
            return f'<pre class="error">{html.escape(text)}</pre>'
        data, metadata = output.get("data", {}), output.get("metadata", {})
        if _WIDGET in data or "application/javascript" in data:
            return ""
        for kind in ("image/svg+xml", "image/png", "image/jpeg"):
            if kind in data:
                return self._figure(kind, data, metadata, caption)
        if "text/html" in data:
            return self._html(_text(data["text/html"]), metadata.get("caption") or caption)
        if "text/markdown" in data:
            return markdown2html_mistune(_text(data["text/markdown"]))
        plain = _text(data.get("text/plain", ""))
        # <Axes: ...> and the like
        return "" if re.match(r"^\[?<[\w.]+[ :(].*>\]?$", plain, re.S) else _printed(plain)

    def _figure(self, kind: str, data, metadata, caption: str) -> str:
        inner = metadata.get(kind, {})
        caption = metadata.get("caption") or inner.get("caption") or caption
        alt = metadata.get("alt") or inner.get("alt") or caption
        source, width = _image(kind, _text(data[kind]))
        width = inner.get("width") or width
        self.figures += 1
        size = f' width="{width}"' if width else ""
        plain = BeautifulSoup(markdown2html_mistune(alt), "html.parser").get_text().strip()
        alt = html.escape(plain or f"Figure {self.figures}")
        return (
            f'<figure id="figure-{self.figures}"><img src="{source}" alt="{alt}"{size}>'
            f"{_figcaption('Figure', self.figures, caption)}</figure>"
        )

    def _html(self, text: str, caption: str) -> str:
        if "<table" not in text:
            return f"<div>{text}</div>"
        self.tables += 1
        return (
            f'<figure id="table-{self.tables}"><div class="scroll">{text}</div>'
            f"{_figcaption('Table', self.tables, caption)}</figure>"
        )


def _repeats(output) -> bool:
    return bool(output.get("metadata", {}).get("repeats_caption"))


def _text(value) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def _figcaption(kind: str, number: int, caption: str) -> str:
    if not caption:
        return f"<figcaption><b>{kind} {number}</b></figcaption>"
    text = caption[0].upper() + caption[1:]
    text = re.sub(r"^<p>|</p>$", "", markdown2html_mistune(text).strip())
    return f"<figcaption><b>{kind} {number}.</b> {text}</figcaption>"


def _markdown(cell) -> str:
    text = cell.source
    for name, kinds in cell.get("attachments", {}).items():
        for kind, content in kinds.items():
            text = text.replace(f"attachment:{name}", f"data:{kind};base64,{_text(content)}")
    return markdown2html_mistune(text)


def _printed(text: str) -> str:
    """Printed text: last state of overwritten lines, no progress bars, folded when long."""
    lines = [_ESCAPES.sub("", line).rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    lines = [line.replace("\b", "").rstrip() for line in lines if not _BAR.search(line)]
    text = "\n".join(lines).strip("\n")
    if not text.strip():
        return ""
    block = f"<pre>{html.escape(text)}</pre>"
    if len(lines) > _LONG_TEXT:
        return f"<details><summary>Printed text, {len(lines)} lines</summary>{block}</details>"
    return block


def _webp(raw: bytes, lossless: bool) -> bytes:
    """A picture as WebP: plots get small without loss, photographs only with it."""
    file = io.BytesIO()
    Image.open(io.BytesIO(raw)).save(file, "WEBP", lossless=lossless, quality=85, method=2)
    return file.getvalue()


def _image(kind: str, content: str) -> tuple[str, int]:
    """A data URI and the width to show at (0: as it is); a large PNG becomes a WebP."""
    if kind == "image/svg+xml":
        return f"data:{kind};base64,{base64.b64encode(content.encode()).decode()}", 0
    content = "".join(content.split())
    raw = base64.b64decode(content)
    if kind == "image/png" and len(raw) > _SMALL_IMAGE:
        small = _webp(raw, lossless=True)
        if len(small) > _LARGE_IMAGE:
            small = min(small, _webp(raw, lossless=False), key=len)
        if len(small) < len(raw):
            kind, content = "image/webp", base64.b64encode(small).decode()
    return f"data:{kind};base64,{content}", 0


def _clean(soup: BeautifulSoup) -> None:
    """Take out whatever would load something, and make tables readable."""
    for element in soup.find_all(_DROPPED):
        element.decompose()
    for element in soup.find_all("style"):
        text = element.string or ""
        if element.has_attr("scoped") or "url(" in text or "@import" in text:
            element.decompose()
    for image in soup.find_all(["img", "source", "image"]):
        if not (image.get("src") or image.get("href") or "").startswith("data:"):
            _drop_image(image)
    for element in soup.find_all(True):
        for name in [name for name in element.attrs if name.startswith("on") or name == "srcset"]:
            del element[name]
        if "url(" in element.get("style", ""):
            del element["style"]
    for link in soup.find_all("a", href=True):
        # notebooks lie elsewhere, and pilcrows of headings are noise
        if "anchor-link" in link.get("class", []):
            link.decompose()
        elif link["href"].split("#")[0].endswith(".ipynb") or "javascript:" in link["href"]:
            link.unwrap()
    for table in soup.find_all("table"):
        _table(soup, table)


def _drop_image(image) -> None:
    parent = image.parent
    image.decompose()
    while parent is not None and parent.name in ("a", "p") and not parent.get_text(strip=True):
        if parent.find("img"):
            return
        parent, empty = parent.parent, parent
        empty.decompose()


_NUMBER = re.compile(r"^[-+−]?[\d,.\u202f ]*\d\s*(%|[kMG])?(\s*[±(\[–].*)?$")


def _table(soup: BeautifulSoup, table) -> None:
    table.attrs = {k: v for k, v in table.attrs.items() if k in ("id", "class")}
    for row in table.find_all("tr"):
        row.attrs.pop("style", None)
    _drop_row_numbers(table)
    columns: dict[int, list[bool]] = {}
    for row in table.select("tbody tr"):
        for place, cell in enumerate(row.find_all(["td", "th"])):
            text = cell.get_text(strip=True)
            if cell.name == "td" and text not in ("", "–", "-", "NaN", "nan", "None"):
                columns.setdefault(place, []).append(bool(_NUMBER.match(text)))
    for row in table.find_all("tr"):
        for place, cell in enumerate(row.find_all(["td", "th"])):
            if all(columns.get(place, [False])):
                cell["class"] = [*cell.get("class", []), "number"]
    if not table.find_parent(class_="scroll"):
        table.wrap(soup.new_tag("div", attrs={"class": "scroll"}))


def _drop_row_numbers(table) -> None:
    """Take out the column 0, 1, 2 ... that pandas puts before a table without an index."""
    rows = [row.find(["th", "td"]) for row in table.select("tbody tr")]
    heads = [row.find(["th", "td"]) for row in table.select("thead tr")]
    numbers = [cell.get_text(strip=True) if cell and cell.name == "th" else "" for cell in rows]
    plain = len(heads) == 1 and heads[0] is not None and not heads[0].get_text(strip=True)
    if plain and numbers == [str(number) for number in range(len(numbers))]:
        for cell in [*rows, *heads]:
            cell.decompose()


def _contents(body: BeautifulSoup) -> list[dict]:
    """Give every heading an id and list them: h2 with the h3 below."""
    entries, used = [], set()
    for heading in body.find_all(["h2", "h3"]):
        text = heading.get_text(" ", strip=True)
        name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"
        while name in used:
            name += "-2"
        used.add(name)
        heading["id"] = name
        entry = {"id": name, "text": text, "inner": []}
        if heading.name == "h3" and entries:
            entries[-1]["inner"].append(entry)
        else:
            entries.append(entry)
    return entries if len(entries) > 1 else []


def _first_sentence(body: BeautifulSoup) -> str:
    """First sentence of the first paragraph; that paragraph is set larger."""
    paragraph = next((p for p in body.find_all("p") if p.get_text(strip=True)), None)
    if paragraph is None:
        return ""
    paragraph["class"] = ["lead"]
    text = " ".join(paragraph.get_text(" ", strip=True).split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[0]


__all__ = ["Article", "ArticleExporter", "build_article", "write_article"]
