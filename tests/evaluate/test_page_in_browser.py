"""The report in headless Chromium: sorted, filtered and played, by keyboard too, without a request or a message."""

import io
import json
import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import Cache, Manifest, Media, Utterance
from emocache.evaluate.page.rendering import script_json
from emocache.evaluate.report import evaluate_runs, write_page

webdriver = pytest.importorskip("selenium.webdriver")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="there is no Chromium with its driver"),
    pytest.mark.xdist_group("chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that remembers its console and its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--mute-audio",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, grid: Any, tmp_path: Path) -> Callable[[], Path]:
    """Open a page of two systems, a clip of which has a sound; gives the file."""

    def show() -> Path:
        grid(5, experiment="better", seeds=[0])
        grid(3, experiment="worse", seeds=[0])
        sound = io.BytesIO()
        with wave.open(sound, "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", "none"))
            file.writeframes(bytes(1600))
        (tmp_path / "media").mkdir()
        (tmp_path / "media/u.wav").write_bytes(sound.getvalue())
        media = (Media("audio", "u.wav", "ab" * 32),)
        told = [Utterance(f"u{fold}{i}", media, text=f"words {i}") for fold in (0, 1) for i in range(6)]
        Cache(tmp_path / "store").put_manifest(Manifest.from_utterances("demo", told))
        path = tmp_path / "report.html"
        runs = [tmp_path / "runs"]
        write_page(path, evaluate_runs(runs), runs, str(tmp_path / "store"), [tmp_path / "media"])
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(path.as_uri())
        return path

    return show


def requests(browser: Any) -> list[str]:
    """The addresses that were asked for since the last call, less those inside the page."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]


def column(browser: Any, table: str, place: int) -> list[str]:
    """The texts of a column as they stand on the screen."""
    cells = f"[data-table={table}] tbody tr > :nth-child({place})"
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, cells)]


def heading(browser: Any, table: str, text: str) -> Any:
    """The button in the heading of a column."""
    buttons = browser.find_elements(By.CSS_SELECTOR, f"[data-table={table}] thead button")
    return next(button for button in buttons if button.text.startswith(text))


def test_a_page_asks_for_nothing_and_says_nothing(browser: Any, page: Any) -> None:
    path = page()
    assert requests(browser) == [path.as_uri()]
    assert browser.get_log("browser") == []
    assert column(browser, "results", 1) == ["better", "worse"]


def test_rows_are_sorted_by_a_heading(browser: Any, page: Any) -> None:
    page()
    button = heading(browser, "results", "pooled")
    head = button.find_element(By.XPATH, "..")
    assert head.get_attribute("aria-sort") == "none"
    for expected, systems in (("descending", ["better", "worse"]), ("ascending", ["worse", "better"])):
        button.click()
        assert head.get_attribute("aria-sort") == expected and column(browser, "results", 1) == systems
    heading(browser, "results", "system").click()
    assert column(browser, "results", 1) == ["better", "worse"] and head.get_attribute("aria-sort") == "none"


def test_rows_are_filtered_by_text_and_choice(browser: Any, page: Any) -> None:
    page()
    place = browser.find_element(By.CSS_SELECTOR, "[data-table=results]")
    status = place.find_element(By.CSS_SELECTOR, "[role=status]")
    assert status.text == "1 to 2 of 2 rows (8 in all)"
    place.find_element(By.CSS_SELECTOR, "input").send_keys("WORSE")
    assert column(browser, "results", 1) == ["worse"]
    place.find_element(By.XPATH, ".//label[starts-with(., 'kind')]/select/option[.='all']").click()
    assert column(browser, "results", 1) == ["worse"] * 4
    place.find_element(By.XPATH, ".//label[starts-with(., 'metric')]/select/option[.='macro_f1']").click()
    assert column(browser, "results", 2) == ["macro_f1"]
    place.find_element(By.CSS_SELECTOR, "input").send_keys("no such")
    assert column(browser, "results", 1) == [] and status.text == "no row fits"


def test_everything_is_reached_by_keyboard(browser: Any, page: Any) -> None:
    page()
    wanted = "a[href], button, input, select, summary, audio, [tabindex='0']"
    script = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).length"
    controls = browser.execute_script(script, wanted)
    seen = set()
    for step in range(3 * controls):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        if step == 0:
            assert active.get_attribute("class") == "skip" and active.rect["x"] >= 0
        seen.add(active.id)
        outline = browser.execute_script(
            "const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth", active
        )
        assert active.tag_name in ("body", "audio") or outline not in ("none0px", "none3px"), active.tag_name
        if active.tag_name == "body" and step:
            break
    assert len(seen) >= controls
    button = heading(browser, "results", "pooled")
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    button.send_keys(Keys.SPACE)
    assert column(browser, "results", 1) == ["worse", "better"]
    assert browser.switch_to.active_element == button
    folded = browser.find_elements(By.CSS_SELECTOR, "details.system > summary")[1]
    folded.send_keys(Keys.ENTER)
    assert folded.find_element(By.XPATH, "..").get_attribute("open") is not None
    assert browser.get_log("browser") == []


def test_a_clip_is_played_from_where_it_lies(browser: Any, page: Any) -> None:
    path = page()
    requests(browser)
    player = browser.find_element(By.CSS_SELECTOR, "[data-table=clips] audio")
    assert player.get_attribute("preload") == "none" and requests(browser) == []
    browser.execute_script("arguments[0].play()", player)
    Wait(browser, 20).until(lambda _: browser.execute_script("return arguments[0].ended", player))
    assert set(requests(browser)) == {(path.parent / "media/u.wav").as_uri()}
    assert browser.get_log("browser") == []


def test_nothing_is_wider_than_a_phone(browser: Any, page: Any) -> None:
    page()
    for width in (390, 1280):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_colours_follow_the_scheme(browser: Any, page: Any) -> None:
    page()
    found = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        script = "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.color, s.fill]"
        found[scheme] = (browser.execute_script(script, "body")[0], browser.execute_script(script, "svg text")[1])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found["light"][0] == found["light"][1] != found["dark"][0] == found["dark"][1]


def test_ten_thousand_rows_stay_usable(browser: Any, page: Any, tmp_path: Path) -> None:
    path = page()
    text = path.read_text(encoding="utf-8")
    start = text.index(opening := '<script type="application/json" id="data">') + len(opening)
    end = text.index("</script>", start)
    tables = json.loads(text[start:end])
    row = tables["results"]["rows"][0]
    tables["results"]["rows"] = [
        [f"system {i}", row[1], [(i * 7919) % 10_007, str(i)], *row[3:]] for i in range(10_000)
    ]
    large = tmp_path / "large.html"
    large.write_text(text[:start] + str(script_json(tables)) + text[end:], encoding="utf-8")
    browser.get(large.as_uri())
    shown = browser.find_elements(By.CSS_SELECTOR, "[data-table=results] tbody tr")
    assert len(shown) <= 100
    clock = "const t = performance.now(); arguments[0].click(); return performance.now() - t"
    assert browser.execute_script(clock, heading(browser, "results", "pooled")) < 2000
    values = [(i * 7919) % 10_007 for i in range(10_000)]
    best = sorted(range(10_000), key=lambda i: -values[i])[: len(shown)]
    assert column(browser, "results", 1) == [f"system {i}" for i in best]
    after = browser.find_element(By.XPATH, "//*[@data-table='results']//button[.='Next']")
    after.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element == after
    status = browser.find_element(By.CSS_SELECTOR, "[data-table=results] [role=status]")
    assert status.text.startswith("26 to 50 of 10000 rows")
    browser.find_element(By.CSS_SELECTOR, "[data-table=results] input").send_keys("system 9999")
    assert column(browser, "results", 1) == ["system 9999"]
    assert browser.get_log("browser") == []
