"""What the notebooks hand to their pages, and what the script of a page does in a browser."""

import shutil

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from utils import notebook
from utils.plots import theme
from utils.report import show as shown
from utils.report.html import write_article

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


def figure(picture=None):
    drawing, axes = theme.canvas()
    axes.text(0.1, 0.1, "0.1234")
    if picture is not None:
        axes.imshow(picture)
    return theme.finish(drawing, "Older is harder", "utkface", "a caption", 7)


@pytest.fixture
def displayed(monkeypatch):
    """What `utils.notebook.show` displays: (data, metadata)."""
    told = []
    keep = lambda data, metadata=None, **_: told.append((data, metadata))  # noqa: E731
    monkeypatch.setattr(notebook, "display", keep)
    return told


def test_a_figure_is_a_drawing_whose_title_stands_beside_it(displayed):
    notebook.show(figure())
    (above, _), (data, about), (below, _) = displayed
    assert above.data == "**Older is harder**" and below.data.startswith("*a caption. UTKFace")
    assert ">0.1234</text>" in data["image/svg+xml"] and "harder" not in data["image/svg+xml"]
    assert about["finding"] == "Older is harder" and about["alt"].startswith("Older is harder. a")


def test_a_photograph_stays_pixels(displayed):
    notebook.show(figure([[[0.5, 0.5, 0.5]]]))
    assert "image/png" in displayed[1][0] and "image/svg+xml" not in displayed[1][0]


def test_tables_are_in_words_and_lead_to_their_numbers(displayed, tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "ROOT", tmp_path)
    numbers = tmp_path / "reports/study/tables/x.csv"
    columns = {"task": ["age_bin", None], "method": ["random", 1], "n": [5, 5]}
    shown.show_words(pd.DataFrame(columns), "Two tasks.", numbers)
    numbers.parent.mkdir(parents=True)
    numbers.touch()
    shown.show_words(pd.DataFrame(columns), "Two tasks.", numbers)
    (table, about), _, (_, later), _ = displayed
    assert table.to_dict("list") == {
        "task": ["age bin", "-"],
        "method": ["random", 1],
    }  # here random weights
    assert about["caption"] == "Two tasks. In all rows: n 5." and about["csv"] == ""
    assert later["csv"] == "../study/tables/x.csv"


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium with chromedriver")
    table = pd.DataFrame({"net": ["b", "a", "c"], "MAE": ["10.5 [9, 11]", "−2", "-"]}).to_html()
    parts = [
        {"image/svg+xml": '<svg viewBox="0 0 9 5" width="9pt"><text>x</text></svg>'},
        {"text/html": table},
    ]
    cells = [new_code_cell("x = 1", outputs=[new_output("display_data", one)]) for one in parts]
    groups = {"age": ["all", "all", "0-24"], "task": list("xyx"), "net": [1.0, 2.0, 3.0]}
    held = new_output("display_data", {"text/html": pd.DataFrame(groups).to_html()})
    cells.append(new_code_cell("y", outputs=[held], metadata={"tags": ["chooser"]}))
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
    write_article(tmp_path / "a.ipynb", tmp_path / "a.html")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    chrome = webdriver.Chrome(options, webdriver.chrome.service.Service(DRIVER))
    chrome.get(f"file://{tmp_path}/a.html")
    yield chrome
    chrome.quit()


def test_the_script_sorts_enlarges_and_shows_code(browser):
    def ask(what):
        return browser.execute_script(f"return {what}")

    def column():
        return ask("[...document.querySelector('tbody').rows].map(r => r.cells[0].innerText)")

    head = browser.find_elements("css selector", "thead button")[1]
    for order, sort in (("abc", "ascending"), ("cba", "descending"), ("bac", None)):
        head.send_keys("\ue007")  # Enter
        assert (
            "".join(column()) == order
            and head.find_element("xpath", "..").get_attribute("aria-sort") == sort
        )
    assert not browser.find_element("tag name", "pre").is_displayed()
    browser.find_element("css selector", ".switch input").click()
    assert browser.find_element("tag name", "pre").is_displayed()
    browser.find_element("css selector", ".enlarge").click()
    assert ask("document.querySelector('dialog').open && !!document.querySelector('dialog svg')")
    browser.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not ask("document.querySelector('dialog').open")


def test_a_chooser_shows_the_rows_of_a_group(browser):
    first, second = browser.find_elements("css selector", ".choices select")
    rows = browser.find_elements("css selector", ".chooser tbody tr")

    def choose(select, text):
        select.find_element("xpath", f"option[.='{text}']").click()
        return [row.is_displayed() for row in rows]

    assert choose(first, "all") == [True, True, False]  # all faces, every task
    heads = browser.find_elements("css selector", ".chooser thead th")
    assert [head.is_displayed() for head in heads][-3:] == [False, True, True]
    assert choose(second, "y") == [False, True, False]
    assert choose(first, "0-24") == [False, False, False]
    assert "Too few" in browser.find_element("css selector", "[role=status]").text
    assert choose(second, "x") == [False, False, True]
    names = [
        label.text.split()[0] for label in browser.find_elements("css selector", ".choices label")
    ]
    assert names == ["age", "task"]
