"""The demo in a real browser: from a photograph to the result, by mouse and by keyboard."""

import shutil

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

from utils.demo.worker import Worker

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium with chromedriver; on Debian: apt install chromium chromium-driver",
)
FLAGS = "headless=new no-sandbox disable-gpu disable-dev-shm-usage window-size=1280,900"
FLAGS += " use-fake-device-for-media-stream use-fake-ui-for-media-stream"
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
NO_CAMERA = """
const kind = arguments[0];
navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", kind));
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    networks = ("mobilenetv2", "vgg19", "resnet50", "alexnet")
    server, address = kit.serve(kit.analyst(tmp_path_factory, *networks), Worker(time_limit=60))
    yield address
    server.close()


def start(*flags, **experimental):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), *flags):
        options.add_argument(f"--{flag}")
    for name, value in experimental.items():
        options.add_experimental_option(name, value)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="module")
def chromium():
    browser = start()
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
    files = {"text": b"not a picture", "empty": b"", "large": bytes(11_000_000)}
    files |= {"one": kit.encoded(kit.photo()), "two": kit.encoded(kit.photo(2))}
    files |= {"none": kit.encoded(Image.new("RGB", (300, 200), "grey"))}
    files |= {"cut": kit.noise(300)[:9000]}
    for name, content in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def content(browser, name):
    return browser.find_element(By.ID, name).get_attribute("textContent")


def settled(browser):
    """Wait until the page has answered; return its status and its error."""
    ends = ("found.", "face.", ").", "no face.")
    WebDriverWait(browser, 60, 0.1).until(
        lambda _: content(browser, "error") or content(browser, "status").endswith(ends)
    )
    return content(browser, "status"), content(browser, "error")


def choose(browser, path):
    browser.find_element(By.ID, "file").send_keys(str(path))
    return settled(browser)


def cards(browser):
    return browser.find_elements(By.CSS_SELECTOR, "#faces .face")


def focused(browser):
    return browser.switch_to.active_element


def press(browser, *keys):
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def test_upload_to_result(browser, pictures):
    assert choose(browser, pictures / "two.jpg") == ("2 faces found.", "")
    names = [card.find_element(By.TAG_NAME, "h3").text for card in cards(browser)]
    marks = browser.find_elements(By.CSS_SELECTOR, ".mark")
    assert names == ["Face 1", "Face 2"] and [mark.text for mark in marks] == ["1", "2"]
    card = cards(browser)[0]
    assert "80 % interval" in card.text and "side by side" in card.text
    assert card.text.count("as annotators of UTKFace would label it") == 3
    plot = card.find_element(By.CSS_SELECTOR, "svg.plot")
    assert "80 percent between" in plot.get_attribute("aria-label")
    networks = card.find_elements(By.CSS_SELECTOR, ".networks li")
    assert len(networks) == 4 and len({network.location["y"] for network in networks}) == 1
    for network in networks:
        assert all(word in network.text for word in ("years", " to ", "male", " %"))
    assert not browser.find_elements(By.ID, "missing")
    browser.find_element(By.ID, "model").send_keys("VGG-19")
    assert "read by VGG-19" in cards(browser)[0].text
    names = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    ours = (browser.current_url, "data:", "blob:")
    assert all(name.startswith(ours) for name in browser.execute_script(names))
    for node in browser.find_elements(By.CSS_SELECTOR, "button, input, select, a, img, [role=img]"):
        if node.is_displayed() and not (node.tag_name == "img" and not node.get_attribute("alt")):
            assert node.accessible_name, node.get_attribute("outerHTML")


def test_no_face_offers_the_whole_picture(browser, pictures):
    assert choose(browser, pictures / "none.jpg") == ("No face found.", "")
    assert focused(browser).get_attribute("id") == "results-title" and not cards(browser)
    press(browser, Keys.TAB)
    assert focused(browser).get_attribute("id") == "whole"
    press(browser, Keys.ENTER)
    WebDriverWait(browser, 30, 0.1).until(lambda _: len(cards(browser)) == 1)
    settled(browser)
    assert content(browser, "results-title") == "The whole picture as one face"
    assert not browser.find_element(By.ID, "whole").is_displayed()


def test_errors_are_shown_and_leave_no_old_result(browser, pictures):
    assert choose(browser, pictures / "one.jpg") == ("1 face found.", "")
    said = {"text": "not a picture", "cut": "damaged", "empty": "empty", "large": "than 10 MB"}
    for name, words in said.items():
        assert words in choose(browser, pictures / f"{name}.jpg")[1]
        assert browser.find_element(By.ID, "error").get_attribute("role") == "alert"
        assert not browser.find_element(By.ID, "results").is_displayed()


@pytest.mark.parametrize("how,words", [("paste", "no picture"), ("drop", "No picture")])
def test_paste_and_drop(browser, pictures, how, words):
    browser.execute_script(PASTE, None, how)
    assert words in settled(browser)[1]
    browser.execute_script(PASTE, list((pictures / "one.jpg").read_bytes()), how)
    WebDriverWait(browser, 60, 0.1).until(lambda _: cards(browser))
    assert settled(browser) == ("1 face found.", "")


def test_the_camera(browser):
    browser.find_element(By.ID, "camera-open").click()
    ready = "return document.getElementById('camera-view').videoWidth > 0"
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(ready))
    browser.find_element(By.ID, "camera-shoot").click()
    status, error = settled(browser)
    assert "found" in status and not error


def test_a_camera_that_does_not_open_gets_one_sentence(browser):
    said = {"NotAllowedError": "The camera was not allowed.", "NotFoundError": "No camera could"}
    for kind, words in said.items():
        browser.execute_script(NO_CAMERA, kind)
        browser.find_element(By.ID, "camera-open").click()
        wait = WebDriverWait(browser, 20, 0.1)
        wait.until(lambda _, words=words: words in content(browser, "error"))
        assert not browser.find_element(By.ID, "camera").is_displayed()


def test_by_keyboard_alone(browser, pictures):
    press(browser, Keys.TAB)
    assert "Skip" in focused(browser).text
    press(browser, Keys.TAB)
    assert focused(browser).get_attribute("id") == "file"
    choose(browser, pictures / "one.jpg")  # the dialogue itself is the system's
    for _ in range(12):
        press(browser, Keys.TAB)
        if focused(browser).get_attribute("type") == "range":
            break
    heat = browser.find_element(By.CSS_SELECTOR, ".heat-stack img:last-child")
    before = heat.value_of_css_property("opacity")
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert float(heat.value_of_css_property("opacity")) < float(before)


def test_on_a_phone(address, pictures):
    metrics = {"width": 360, "height": 740, "pixelRatio": 2}
    phone = start(mobileEmulation={"deviceMetrics": metrics})
    try:
        phone.get(address)
        assert choose(phone, pictures / "two.jpg") == ("2 faces found.", "")
        assert phone.execute_script("return document.documentElement.scrollWidth") <= 360
        buttons = phone.find_elements(By.CSS_SELECTOR, ".button, select")
        assert not [n.text for n in buttons if n.is_displayed() and n.size["height"] < 40]
    finally:
        phone.quit()
