"""The demo in a real browser: from a photograph to the result, by mouse and by keyboard."""

import shutil
import time

import pytest
from PIL import Image

pytest.importorskip("mtcnn", reason="the demo extra is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

import demo_kit as kit
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from utils.demo import analysis
from utils.demo.worker import Worker

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium with chromedriver; on Debian: apt install chromium chromium-driver",
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
LABELLED = "as annotators of UTKFace would label it"
PASTE = """
const [bytes, how] = arguments;
const data = new DataTransfer();
if (bytes) data.items.add(new File([new Uint8Array(bytes)], "x.jpg", {type: "image/jpeg"}));
else data.items.add("words", "text/plain");
const event = how === "paste"
  ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
  : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
document.getElementById("drop").dispatchEvent(event);
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACES_WORK_DIR", str(tmp_path_factory.mktemp("demo")))
        for seed, name in enumerate(("mobilenetv2", "vgg19", "resnet50", "alexnet")):
            kit.write_run(f"utkface-{name}-48", name, seed)
        found = {k: v for k, v in analysis.models.available().items() if k.endswith("-48")}
        analyst = analysis.Analyst(analysis.choose(found))
    for model in analyst.models.values():
        model.about["model"] = "not in the registry"  # its last layer is found by itself
    analyst.warm_up()
    server, address = kit.serve(analyst, Worker(time_limit=60))
    yield address
    server.close()


def start(*flags, **experimental):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    for name, value in experimental.items():
        options.add_experimental_option(name, value)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="module")
def chromium():
    browser = start("--window-size=1280,900")
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium, address):
    chromium.get(address)
    chromium.get_log("browser")
    yield chromium
    severe = [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"]
    # A refused picture is logged as a failed request; nothing else may go wrong.
    assert all("api/predict" in line["message"] for line in severe), severe


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    files = {
        "one": kit.encoded(kit.photo()),
        "two": kit.encoded(kit.photo((kit.FOUND, kit.ALSO_FOUND))),
        "none": kit.encoded(Image.new("RGB", (300, 200), "grey")),
        "text": b"not a picture",
        "empty": b"",
        "large": bytes(11_000_000),
        "bomb": kit.flat_png(20_000, 20_000),
        "cut": kit.encoded(kit.photo())[:9000],
    }
    for name, content in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def content(browser, name):
    return browser.find_element(By.ID, name).get_attribute("textContent")


def settled(browser):
    """Wait until the page has answered; return its status and its error."""

    def done(_):
        return content(browser, "error") or content(browser, "status").endswith(
            ("found.", "face.", ").", "no face.")
        )

    WebDriverWait(browser, 60, 0.1).until(done)
    return content(browser, "status"), content(browser, "error")


def choose(browser, path):
    browser.find_element(By.ID, "file").send_keys(str(path))
    return settled(browser)


def cards(browser):
    return browser.find_elements(By.CSS_SELECTOR, "#faces .face")


def test_upload_to_result(browser, pictures):
    assert choose(browser, pictures / "one.jpg") == ("1 face found.", "")
    (card,) = cards(browser)
    text = card.text
    assert "80 % interval" in text and text.count(LABELLED) == 3
    assert "side by side" in text and "VGG19" in text
    plot = card.find_element(By.CSS_SELECTOR, "svg.plot")
    assert "80 percent between" in plot.get_attribute("aria-label")
    networks = card.find_elements(By.CSS_SELECTOR, ".networks li")
    assert len(networks) == 4 and len({network.location["y"] for network in networks}) == 1
    for network in networks:
        assert all(word in network.text for word in ("years", " to ", "male", " %"))
        assert len(network.find_elements(By.CSS_SELECTOR, ".heat-stack img")) == 2
    assert not browser.find_elements(By.ID, "missing")
    (mark,) = browser.find_elements(By.CSS_SELECTOR, ".mark")
    picture = browser.find_element(By.ID, "picture")
    share = mark.size["width"] / picture.size["width"]
    assert 0.1 < share < 0.45
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert all(name.startswith((browser.current_url, "data:", "blob:")) for name in loaded)


def test_two_faces_are_numbered(browser, pictures):
    assert choose(browser, pictures / "two.jpg") == ("2 faces found.", "")
    assert [card.find_element(By.TAG_NAME, "h3").text for card in cards(browser)] == [
        "Face 1",
        "Face 2",
    ]
    marks = browser.find_elements(By.CSS_SELECTOR, ".mark")
    assert [mark.text for mark in marks] == ["1", "2"]
    marks[1].click()
    assert browser.current_url.endswith("#face-2")


def test_no_face_offers_the_whole_picture(browser, pictures):
    assert choose(browser, pictures / "none.jpg") == ("No face found.", "")
    offer = browser.find_element(By.ID, "whole")
    assert offer.is_displayed() and not cards(browser)
    assert "one face and little else" in browser.find_element(By.ID, "whole-offer").text
    offer.click()
    settled(browser)
    WebDriverWait(browser, 30, 0.1).until(lambda _: len(cards(browser)) == 1)
    assert content(browser, "results-title") == "The whole picture as one face"
    assert not browser.find_element(By.ID, "whole").is_displayed()


@pytest.mark.parametrize(
    "name,words",
    [
        ("text", "not a picture"),
        ("empty", "empty"),
        ("large", "larger than 10 MB"),
        ("bomb", "50 million pixels"),
        ("cut", "damaged"),
    ],
)
def test_errors_are_shown(browser, pictures, name, words):
    _, error = choose(browser, pictures / f"{name}.jpg")
    assert words in error
    assert browser.find_element(By.ID, "error").get_attribute("role") == "alert"
    assert not browser.find_element(By.ID, "results").is_displayed()


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_paste_and_drop(browser, pictures, how):
    browser.execute_script(PASTE, list((pictures / "one.jpg").read_bytes()), how)
    assert settled(browser) == ("1 face found.", "")


@pytest.mark.parametrize("how,words", [("paste", "no picture"), ("drop", "No picture")])
def test_paste_and_drop_of_something_else(browser, how, words):
    browser.execute_script(PASTE, None, how)
    assert words in settled(browser)[1]


def test_an_error_after_a_result_leaves_no_old_result(browser, pictures):
    choose(browser, pictures / "two.jpg")
    _, error = choose(browser, pictures / "text.jpg")
    assert error and not browser.find_element(By.ID, "results").is_displayed()
    assert choose(browser, pictures / "one.jpg") == ("1 face found.", "")
    assert len(cards(browser)) == 1


HELD = """
const plain = window.fetch, held = [];
window.release = () => held.forEach((go) => go());
window.fetch = async (url, options) => {
  if (String(url).includes("model=" + arguments_[0])) {
    await new Promise((go) => held.push(go));
    if (arguments_[1]) return new Response("{}", { status: 500 });
  }
  return plain(url, options);
};
"""


def hold(browser, model, fail=False):
    """Keep back the answers of a network until `window.release()`, and let it fail."""
    browser.execute_script("const arguments_ = arguments;" + HELD, model, fail)


def test_whoever_is_at_a_slider_stays_there_while_answers_arrive(browser, pictures):
    hold(browser, "vgg19")
    browser.find_element(By.ID, "file").send_keys(str(pictures / "one.jpg"))
    WebDriverWait(browser, 60).until(lambda _: cards(browser))
    slider = cards(browser)[0].find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.ARROW_LEFT)
    assert "is being asked" in cards(browser)[0].text
    browser.execute_script("window.release()")
    settled(browser)
    assert focused(browser) == slider and "is being asked" not in cards(browser)[0].text
    shown = cards(browser)[0].find_elements(By.CSS_SELECTOR, ".heat-stack img:last-child")
    slider.send_keys(Keys.HOME)
    assert len(shown) == 5 and {image.value_of_css_property("opacity") for image in shown} == {"0"}


def test_a_network_that_fails_does_not_hide_the_others(browser, pictures):
    hold(browser, "vgg19", fail=True)
    browser.find_element(By.ID, "file").send_keys(str(pictures / "one.jpg"))
    WebDriverWait(browser, 60).until(lambda _: cards(browser))
    WebDriverWait(browser, 60).until(lambda _: "is being asked" in cards(browser)[0].text)
    browser.execute_script("window.release()")
    time.sleep(0.2)
    browser.execute_script("window.release()")
    assert settled(browser) == ("1 face found.", "")
    text = cards(browser)[0].text
    assert text.count("gave no answer") == 1 and text.count("is being asked") == 0


def test_the_camera(browser):
    browser.find_element(By.ID, "camera-open").click()
    shoot = browser.find_element(By.ID, "camera-shoot")
    WebDriverWait(browser, 20).until(
        lambda _: (
            shoot.is_displayed()
            and browser.execute_script(
                "return document.getElementById('camera-view').videoWidth > 0"
            )
        )
    )
    shoot.click()
    status, error = settled(browser)
    assert "found" in status and not error
    assert not browser.find_element(By.ID, "camera").is_displayed()


def focused(browser):
    return browser.switch_to.active_element


def press(browser, *keys):
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def test_by_keyboard_alone(browser, pictures):
    press(browser, Keys.TAB)
    assert "Skip" in focused(browser).text
    press(browser, Keys.TAB)
    chooser = focused(browser)
    assert chooser.get_attribute("id") == "file"
    chooser.send_keys(str(pictures / "one.jpg"))  # the dialogue itself is the system's
    settled(browser)
    assert focused(browser).get_attribute("id") == "results-title"
    seen = []
    for _ in range(12):
        press(browser, Keys.TAB)
        seen.append(focused(browser))
        if seen[-1].get_attribute("type") == "range":
            break
    names = [node.tag_name for node in seen]
    assert names[-1] == "input" and "a" in names and names.count("select") == 2
    heat = browser.find_element(By.CSS_SELECTOR, ".heat-stack img:last-child")
    before = heat.value_of_css_property("opacity")
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert float(heat.value_of_css_property("opacity")) < float(before)


def test_the_whole_picture_by_keyboard(browser, pictures):
    choose(browser, pictures / "none.jpg")
    assert focused(browser).get_attribute("id") == "results-title"
    press(browser, Keys.TAB)
    assert focused(browser).get_attribute("id") == "whole"
    press(browser, Keys.ENTER)
    WebDriverWait(browser, 30, 0.1).until(lambda _: len(cards(browser)) == 1)
    settled(browser)
    assert focused(browser).get_attribute("id") == "results-title"


def test_every_control_has_a_name(browser, pictures):
    choose(browser, pictures / "two.jpg")
    for node in browser.find_elements(By.CSS_SELECTOR, "button, input, select, a, img, [role=img]"):
        if node.tag_name == "img" and node.get_attribute("alt") == "":
            continue  # the heat-map, named by the crop beneath it
        if node.is_displayed():
            assert node.accessible_name, node.get_attribute("outerHTML")
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((n) => n.id)")
    assert len(ids) == len(set(ids))


def test_another_model_shows_its_own_answer(browser, pictures):
    choose(browser, pictures / "one.jpg")
    first = cards(browser)[0].text
    select = browser.find_element(By.ID, "model")
    WebDriverWait(browser, 20).until(lambda _: select.is_displayed())
    select.send_keys("VGG19")
    assert "read by VGG19" in cards(browser)[0].text and cards(browser)[0].text != first


def contrast(browser, selector):
    """Contrast of an element's text with the page, as WCAG defines it."""

    def luminance(colour):
        parts = [float(p) / 255 for p in colour.split("(")[1].rstrip(")").split(",")[:3]]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    text = browser.find_element(By.CSS_SELECTOR, selector).value_of_css_property("color")
    page = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    low, high = sorted((luminance(text), luminance(page)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser, pictures, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    choose(browser, pictures / "one.jpg")
    for selector in ("h1", ".lead", ".fine", ".as-labelled", ".error", ".about a"):
        assert contrast(browser, selector) >= 4.5, (scheme, selector)


def test_on_a_phone(address, pictures):
    metrics = {"width": 360, "height": 740, "pixelRatio": 2}
    phone = start(mobileEmulation={"deviceMetrics": metrics})
    try:
        phone.get(address)
        assert choose(phone, pictures / "two.jpg") == ("2 faces found.", "")
        time.sleep(0.3)
        wide = phone.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 360
        small = [
            node.text
            for node in phone.find_elements(By.CSS_SELECTOR, ".button, select")
            if node.is_displayed() and node.size["height"] < 40
        ]
        assert not small
    finally:
        phone.quit()
