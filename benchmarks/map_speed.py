"""How fast the map of weight space answers in a browser: ``python -m benchmarks.map_speed``.

Starts the app, opens the map in headless Chromium (software drawing, no GPU), and measures a
redraw of all points, and the time from a click to the decoded picture.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.common import benchmark_parser, start, store_result

ROOT = Path(__file__).resolve().parent.parent
PORT = 7899
REDRAW = """canvas => { const began = performance.now();
  for (let i = 0; i < 20; i++)
    canvas.dispatchEvent(new WheelEvent('wheel', { deltaY: i % 2 ? 1 : -1 }));
  canvas.getContext('2d').getImageData(0, 0, 1, 1);
  return (performance.now() - began) / 20; }"""


def measure(page: Any, name: str) -> dict[str, float]:
    """Milliseconds of a redraw, and seconds from a click to a picture: the median of five."""
    page.locator("#map-set").get_by_text(name).click()
    page.wait_for_timeout(3000)
    canvas = page.locator(".wm-canvas")
    redraw = canvas.evaluate(REDRAW)
    box = canvas.bounding_box()
    seconds = []
    for i in range(6):
        before = page.locator("#map-point img").first.get_attribute("src") if i else None
        x, y = box["x"] + box["width"] * (0.3 + 0.07 * i), box["y"] + box["height"] * 0.5
        started = time.perf_counter()
        page.mouse.click(x, y)
        while True:
            image = page.locator("#map-point img")
            if image.count() and image.first.get_attribute("src") != before:
                break
            if time.perf_counter() - started > 5:  # no point near: try another place
                break
            page.wait_for_timeout(5)
        seconds.append(time.perf_counter() - started)
        page.wait_for_timeout(2500)
    return {"redraw_ms": redraw, "open_seconds": sorted(seconds[1:])[len(seconds) // 2 - 1]}


def main() -> None:
    args = benchmark_parser(__doc__).parse_args()
    start(args)
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    environment = os.environ | {"PORT": str(PORT), "WSDEMO_OPEN_BROWSER": "0"}
    app = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=environment)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=2).close()
                break
            except OSError:
                time.sleep(0.3)
        with sync_playwright() as playwright:
            flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(f"http://127.0.0.1:{PORT}/")
            page.get_by_role("tab", name="Clusters").click()
            page.locator(".wm-canvas").wait_for()
            values = {name: measure(page, name) for name in ("faces", "shapes")}
            browser.close()
    finally:
        app.terminate()
        app.wait()
    print(values)
    store_result("map-speed", "python -m benchmarks.map_speed", values)


if __name__ == "__main__":
    main()
