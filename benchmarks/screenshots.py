"""Pictures of a report, as a phone and a desk show it in both colour schemes, and of the end of a terminal.

python -m emocache.benchmarks.screenshots demo/runs/evaluation/report.html docs/pictures
python -m emocache.benchmarks.screenshots --terminal docs/pictures -- emocache evaluate demo/runs --cache demo/store

Needs Chromium, its driver and selenium.
"""

import argparse
import base64
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from selenium import webdriver

from .terminal_pictures import terminal_page

WIDTHS = {390: 1700, 1280: 1250}
"""{pixels of width: of height}."""
SCHEMES = ("light", "dark")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium, ended with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
    try:
        yield driver
    finally:
        driver.quit()


def main() -> None:
    """Write `report-<width>-<scheme>.png` for each width and scheme, or `terminal.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?", help="a report")
    parser.add_argument("out", type=Path, nargs="?", help="the folder to write to")
    parser.add_argument("--terminal", type=Path, metavar="OUT", help="a folder for the picture of a command, after --")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    asked, command = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    if asked.terminal is not None and command and asked.page is None:
        show_terminal(asked.terminal, command)
    elif asked.terminal is None and not command and asked.out is not None:
        show_report(asked.page, asked.out)
    else:
        parser.error("give PAGE and OUT, or --terminal OUT -- COMMAND...")


def show_report(page: Path, out: Path) -> None:
    """Write a picture of the top of a page for each width and scheme."""
    with browser() as driver:
        for width, height in WIDTHS.items():
            for scheme in SCHEMES:
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                driver.get(page.resolve().as_uri())
                _capture(driver, out / f"report-{width}-{scheme}.png")


def show_terminal(out: Path, command: Sequence[str]) -> None:
    """Write a picture of the last screenful of a command, cropped to what it wrote."""
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        page = Path(folder) / "terminal.html"
        page.write_text(terminal_page(command), encoding="utf-8")
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        driver.get(page.as_uri())
        box = driver.execute_script(
            "const b = document.querySelector('pre').getBoundingClientRect(); return [b.width, b.height]"
        )
        clip = {"x": 0, "y": 0, "width": box[0], "height": box[1], "scale": 1}
        _capture(driver, out / "terminal.png", {"clip": clip, "captureBeyondViewport": True})


def _capture(driver: webdriver.Chrome, path: Path, options: Mapping[str, Any] = MappingProxyType({})) -> None:
    shown = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", **options})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(shown["data"]))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
