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


@pytest.fixture(scope="module")
def built() -> list[Path]:
    """The page, once it is made: no test changes it."""
    return []


@pytest.fixture
def page(browser: Any, built: list[Path], grid: Any, tmp_path: Path) -> Callable[[], Path]:
    """Open a page of two systems, the clips of which have a sound; gives the file."""

    def show() -> Path:
        if not built:
            built.append(_build(grid, tmp_path))
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(built[0].as_uri())
        return built[0]

    return show


def _build(grid: Any, folder: Path) -> Path:
    grid(5, experiment="better", seeds=[0])
    grid(3, experiment="worse", seeds=[0])
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "none"))
        file.writeframes(bytes(1600))
    (folder / "media").mkdir()
    (folder / "media/u.wav").write_bytes(sound.getvalue())
    media = (Media("audio", "u.wav", "ab" * 32),)
    told = [Utterance(f"u{fold}{i}", media, text=f"words {i}") for fold in (0, 1) for i in range(6)]
    Cache(folder / "store").put_manifest(Manifest.from_utterances("demo", told))
    runs = [folder / "runs"]
    # Not beside the media: links must hold from where the page lies.
    return write_page(
        folder / "some where" / "report.html", evaluate_runs(runs), runs, str(folder / "store"), [folder / "media"]
    )


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
    assert status.text == "1 to 1 of 1 rows (8 in all)" and column(browser, "results", 1) == ["worse"]
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


def play_first(browser: Any) -> Any:
    """Press the first button that plays, by keyboard; gives what has the focus then."""
    button = browser.find_element(By.CSS_SELECTOR, "[data-table=clips] button.play")
    assert button.get_attribute("aria-label").startswith("Play demo/u")
    button.send_keys(Keys.ENTER)
    return browser.switch_to.active_element


def test_a_clip_is_played_from_where_it_lies(browser: Any, page: Any) -> None:
    path = page()
    assert requests(browser) == [path.as_uri()]
    player = play_first(browser)
    assert player.tag_name == "audio"
    Wait(browser, 20).until(lambda _: browser.execute_script("return arguments[0].ended", player))
    assert set(requests(browser)) == {(path.parents[1] / "media/u.wav").as_uri()}
    assert browser.get_log("browser") == []
    second = play_first(browser)
    assert second != player and browser.execute_script("return arguments[0].paused", player)
    heading(browser, "clips", "loss").click()  # rows are made anew
    assert browser.find_elements(By.CSS_SELECTOR, "audio") == []


def test_a_clip_that_is_gone_is_told(browser: Any, page: Any, tmp_path: Path) -> None:
    moved = tmp_path / "report.html"
    moved.write_bytes(page().read_bytes())
    browser.get(moved.as_uri())
    play_first(browser)
    cell = "[data-table=clips] [role=alert]"
    Wait(browser, 20).until(lambda _: browser.find_elements(By.CSS_SELECTOR, cell))
    assert browser.find_element(By.CSS_SELECTOR, cell).text == "not there: ../media/u.wav"
    browser.get_log("browser")  # of a file that is not there the browser itself tells


def test_what_all_rows_were_chosen_by_is_no_column(browser: Any, page: Any) -> None:
    page()
    head = "[data-table=classes] thead th"
    cells = browser.find_elements(By.CSS_SELECTOR, head)
    shown = {cell.get_attribute("textContent"): cell.is_displayed() for cell in cells}
    assert [name for name, there in shown.items() if not there] == ["system"]
    row = browser.find_elements(By.CSS_SELECTOR, "[data-table=classes] tbody tr:first-child > *")
    assert len(row) == len(cells) - 1


def test_paper_has_every_row_and_every_section(browser: Any, page: Any) -> None:
    page()
    closed = "return document.querySelectorAll('details:not([open])').length"
    folded = browser.execute_script(closed)
    assert folded > 0
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(closed) == 0
    features = {"media": "print"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    size = {"width": 700, "height": 1000, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = (
        "return [...document.querySelectorAll('table, pre, figure')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
    )
    assert browser.execute_script(wide) == []
    for control in browser.find_elements(By.CSS_SELECTOR, ".controls, .pager button, button.play, nav"):
        assert not control.is_displayed()
    assert "of: main" in browser.find_element(By.CSS_SELECTOR, "[data-table=results] .printed").text
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(closed) == folded


def test_without_javascript_everything_is_read(browser: Any, page: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page()
        tables = browser.find_elements(By.CSS_SELECTOR, "noscript table")
        assert len(tables) == 5 and all(table.is_displayed() for table in tables)
        assert "better accuracy 0.833" in " ".join(tables[0].text.split())
        link = browser.find_element(By.CSS_SELECTOR, "noscript td a")
        assert link.text == "play" and link.get_attribute("href").endswith("/media/u.wav")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


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
