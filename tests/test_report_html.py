"""The article: one file, nothing loaded from a network, captions, contents, folded code."""

import base64
import io
import re
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from utils.files import write_json
from utils.report import html as article
from utils.report.html import page_head, write_index

SCRIPT = (article.TEMPLATES / "article" / "script.js").read_text().strip()
VOID = {"meta", "img", "br", "hr", "input", "link", "col", "source", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask for."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.ids, self.data = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()

    def handle_data(self, data):
        self.data += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def picture(side: int) -> str:
    buffer, noise = io.BytesIO(), np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shown(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


def code(source, *outputs, tags=()):
    return new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


TABLE = (
    '<style scoped>th {color: red}</style><table border="1" class="dataframe"><thead>'
    "<tr><th></th><th>net</th><th>MAE</th></tr></thead><tbody>"
    "<tr><th>0</th><td>vgg19</td><td>5.1 [4, 6]</td></tr>"
    "<tr><th>1</th><td>alexnet</td><td>6.2</td></tr>"
    "</tbody></table>"
)
BADGE = "[![Colab](https://colab.example/badge.svg)](https://colab.example/x)"
BARS = " 10%|█    | 1/10 [00:01<00:09]\r100%|████| 10/10 [00:10<00:00]\nn = 7 <faces>\n"
ACTIVE = (
    '<script src="https://x.y/z.js"></script><b onclick="x()" style="background: url(x)">bold</b>'
)
WIDGET = "application/vnd.jupyter.widget-view+json"
DRAWING = (
    '<?xml version="1.0"?><!-- a remark --><svg width="9pt" viewBox="0 0 9 5"><g id="unasked">'
    '<path id="a" d="M 0.1234 1"/></g><use href="#a"/><text>0.1234</text></svg>'
)
FIGURE = {"image/png": picture(8), "text/plain": "<Figure>"}


def toy():
    """A notebook with everything that an executed one may hold."""
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Who is R & D?\n\nOne *sentence* of purpose. More.\n\n{BADGE}"),
            code("import os", tags=["set-up"]),
            code("epochs: int = 1  # passes", tags=["parameters"]),
            new_markdown_cell("## First part\n\nSee [it](01_dataset_eda.ipynb), [p](https://a.b)."),
            code("x = 1 < 2"),
            code(
                "plot()",
                printed("W0000 noise", "stderr"),
                printed(BARS),
                shown(FIGURE, caption="error, n = 7.", alt="**Up**. Error."),
                shown({"text/markdown": "*error, n = 7.*"}, repeats_caption=True),
                shown({"text/plain": "Text(0.5, 1.0, 'title')"}),
            ),
            new_markdown_cell("### Deeper"),
            code("plot()", shown({"image/svg+xml": DRAWING})),
            code("table", shown({"text/html": TABLE}, caption="All *nets*.", csv="../x.csv")),
            new_markdown_cell("## First part\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
            code("bar", shown({WIDGET: {}, "text/plain": "a bar"})),
            code("js", shown({"text/html": ACTIVE})),
            code("find", shown({"text/markdown": "**Found** it."}), tags=["finding"]),
            code("secret", printed("gone"), tags=["remove-cell"]),
        ]
    )


def render(notebook, **resources) -> str:
    return article.ArticleExporter().from_notebook_node(notebook, resources)[0]


@pytest.fixture(scope="module")
def text():
    return render(toy(), subtitle="mobilenetv2, head", source="02_x.ipynb")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def assert_self_contained(text: str) -> None:
    """No script but the page's own, and nothing that a browser would fetch."""
    page = Page(text)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.S)
    assert all(own.strip() == SCRIPT for own in scripts) and len(SCRIPT) < 4500
    assert not page.all("link") and not page.all("iframe")
    for tag, attrs in page.tags:
        for name in ("src", "href", "data", "poster", "srcset", "background") if tag != "a" else ():
            value = attrs.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, f"<{tag} {name}={value[:60]}>"
        assert "url(" not in attrs.get("style", "")
        assert not [name for name in attrs if name.startswith("on")]
    styles = "".join(re.findall(r"<style.*?</style>", text, re.S))
    assert "@import" not in styles and "url(" not in styles
    for rule in ("prefers-color-scheme: dark", "@media print", "@media (max-width"):
        assert rule in styles
    phone = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert phone in page.all("meta")


def test_loads_nothing_is_valid_and_reads_on_phone_and_paper(text):
    assert_self_contained(text)
    assert_self_contained(render(new_notebook(cells=[]), source="empty.ipynb"))


def test_title_finding_and_contents_come_first(text, page):
    assert "<h1>Who is R &amp; D?</h1>" in text and "mobilenetv2, head" in text
    assert len(page.all("h1")) == 1 and len(page.all("nav")) == 1
    assert text.index("<h1>") < text.index("<strong>Found</strong>") < text.index("<nav")
    assert text.index("<nav") < text.index("<p>One <em>sentence")
    links = [a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#")]
    assert links[0] == "the-article"  # past the contents
    assert links[1:] == ["first-part", "deeper", "first-part-2", "how-this-page-was-made"]
    assert set(links) <= set(page.ids) and len(page.ids) == len(set(page.ids))


def test_figures_and_tables_are_captioned_and_numbered_by_the_style_sheet(text, page):
    assert "<figcaption>Error, n = 7.</figcaption></figure>" in text
    numbers = ' <a href="../x.csv">Numbers (CSV)</a>'
    assert f"<figcaption>All <em>nets</em>.{numbers}</figcaption></figure>" in text
    assert [one["class"] for one in page.all("figure")] == ["picture", "picture", "table"]
    for kind in ("picture", "table"):
        assert f"figure.{kind} {{ counter-increment: {kind}; }}" in text
    alts = [image["alt"] for image in page.all("img")]
    kinds = [image["src"].split(";")[0] for image in page.all("img")]
    assert alts == ["Up. Error."] and kinds == ["data:image/png"]
    drawings = page.all("svg")
    assert [(one["role"], one["aria-label"], one["viewbox"]) for one in drawings] == [
        ("img", "a figure", "0 0 9 5")
    ]


def test_a_drawing_is_part_of_the_page_and_keeps_its_text_and_its_own_names(text, page):
    assert "<text>0.1234</text>" in text and 'd="M 0.12 1"' in text
    held, asked = re.search(r'id="(d\w+-a)".*?href="#(d\w+-a)"', text).groups()
    assert held == asked and 'id="unasked"' not in text and "a remark" not in text
    assert not [name for name in page.ids if page.ids.count(name) > 1]


def test_code_is_folded_named_and_joined(text, page):
    labels = re.findall(r"<summary>(.*?)</summary>", text)
    assert labels == [*5 * ["Code"], "Parameters", "Set-up"]  # cells without output are joined
    assert text.index("How this page was made</h2>") < text.index("<summary>Parameters")
    assert all("open" not in attrs for attrs in page.all("details"))


def test_noise_is_dropped(page):
    for noise in ("W0000", "it/s", "10/10", "Text(0.5", "gone", "a bar", "<Figure"):
        assert noise not in page.data
    assert "n = 7 <faces>" in page.data and "bold" in page.data
    assert page.data.lower().count("error, n = 7.") == 1
    hrefs = [attrs.get("href", "") for attrs in page.all("a")]
    assert "https://a.b" in hrefs
    assert not [href for href in hrefs if href.endswith(".ipynb") or "colab" in href]


def test_tables_scroll_align_numbers_and_lose_row_numbers(text, page):
    boxes = [one for one in page.all("div") if one.get("class") == "scroll"]
    assert len(boxes) == len(page.all("table")) + len(page.all("figure")) - 1 == 4
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert (
        '<td class="number">5.1 [4,\N{NO-BREAK SPACE}6]</td>' in text
        and '<th scope="row">vgg19</th>' in text
    )
    assert all(head["scope"] in ("row", "col") for head in page.all("th"))
    assert "<th>0</th>" not in text and "scoped" not in text
    assert all("border" not in attrs for attrs in page.all("table"))


def test_long_prints_are_folded_and_errors_lose_their_colours():
    long = "\n".join(f"line {number}" for number in range(50))
    error = new_output("error", ename="E", evalue="v", traceback=["\x1b[31mE: bad <x>\x1b[0m"])
    text = render(new_notebook(cells=[code("x", printed(long)), code("y", error)]))
    assert "Printed text, 50 lines" in text
    assert '<pre class="error">E: bad &lt;x&gt;</pre>' in text


def test_a_large_picture_becomes_smaller_and_a_large_page_is_refused(tmp_path, monkeypatch):
    large = picture(500)
    text = render(new_notebook(cells=[code("x", shown({"image/png": large}))]))
    assert "data:image/webp" in text and len(text) < len(large)
    nbformat.write(toy(), tmp_path / "toy.ipynb")
    monkeypatch.setattr(article, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="out.html has 0.0 MB, expected at most 0; show fewer"):
        article.write_article(tmp_path / "toy.ipynb", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_the_index_leads_to_every_page(tmp_path):
    assert "./run_all.sh" in write_index(tmp_path).read_text()  # nothing yet
    nbformat.write(toy(), tmp_path / "toy.ipynb")
    for sub, name in (("smoke", "02_a"), ("smoke", "06_report"), ("study", "06_report")):
        (tmp_path / sub).mkdir(exist_ok=True)
        article.write_article(tmp_path / "toy.ipynb", tmp_path / sub / f"{name}.html", "a, b")
    head = page_head(tmp_path / "smoke" / "02_a.html")
    assert head == {"title": "Who is R & D? (a, b)", "sentence": "One sentence of purpose."}
    text = write_index(tmp_path).read_text()
    links = [attrs["href"] for attrs in Page(text).all("a")]
    assert links == ["study/06_report.html", "smoke/06_report.html", "smoke/02_a.html"]
    assert text.count("One sentence of purpose.") == 3 and "R &amp; D" in text
    assert_self_contained(text)
    assert "Read the report" not in text  # there are no findings yet
    write_json(
        tmp_path / "study/tables/findings.json", {"utkface": [f"n{k} **x**" for k in range(7)]}
    )
    (tmp_path / "study/figures").mkdir()
    (tmp_path / "study" / article.MEAN_MAPS).touch()
    text = write_index(tmp_path).read_text()
    assert re.findall(r"<li>(.*?)</li>", text)[:5] == [f"n{k} <strong>x</strong>" for k in range(5)]
    assert 'href="web/index.html"' in text  # where the site has the page without a server
    assert "n5" not in text and 'src="study/figures/mean_maps.png"' in text
