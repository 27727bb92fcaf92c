"""Pictures of a report, as a phone and a desk show it in both colour schemes: needs Chromium, its driver and selenium.

python -m emocache.benchmarks.screenshots demo/runs/evaluation/report.html docs/pictures
"""

import argparse
import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

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
    """Write `report-<width>-<scheme>.png` for each width and scheme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        for width, height in WIDTHS.items():
            for scheme in SCHEMES:
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                driver.get(asked.page.resolve().as_uri())
                shown = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
                path = asked.out / f"report-{width}-{scheme}.png"
                path.write_bytes(base64.b64decode(shown["data"]))
                print(f"written: {path}")


if __name__ == "__main__":
    main()
