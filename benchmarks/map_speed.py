"""How fast the map of weight space answers in a browser: ``python -m benchmarks.map_speed``.

Starts the app, opens the map in headless Chromium (software drawing, no GPU), and measures twenty
interactions, each from its event to the next painted frame, and the time from a click to the
decoded picture.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.common import benchmark_parser, start, store_result

ROOT = Path(__file__).resolve().parent.parent
PORT = 7899
INTERACT = """async canvas => {
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const box = canvas.getBoundingClientRect(), times = [];
  for (let i = 0; i < 20; i++) {
    await new Promise(done => setTimeout(done, 50 + 7 * i));  // anywhere within a frame
    const began = performance.now();
    canvas.dispatchEvent(new WheelEvent('wheel', { deltaY: i % 2 ? 40 : -40,
      clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 }));
    canvas.getContext('2d').getImageData(0, 0, 1, 1);  // every point of it, rasterised
    await frame();
    await frame();  // begins once the first has been handed over to be shown
    times.push(performance.now() - began);
  }
  return times; }"""
"""Zooms in and out. Chromium puts off drawing on a canvas until its pixels are needed."""


def measure(page: Any, name: str) -> dict[str, float]:
    """Milliseconds to the next frame, and seconds from a click to a picture: median of five."""
    page.locator(f"#map-set input[value='{name}']").click()
    page.wait_for_timeout(3000)
    canvas = page.locator(".wm-canvas")
    times = sorted(canvas.evaluate(INTERACT))
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
    return {
        "frame_ms": statistics.median(times),
        "slowest_frame_ms": times[-1],
        "open_seconds": statistics.median(seconds[1:]),
    }


def main() -> None:
    args = benchmark_parser(__doc__).parse_args()
    start(args)
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    load = os.getloadavg()[0]  # of other programs
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
            values: dict[str, Any] = {name: measure(page, name) for name in ("faces", "shapes")}
            browser.close()
    finally:
        app.terminate()
        app.wait()
    values |= {"load": load, "processors": os.cpu_count()}
    print(values)
    store_result("map-speed", "python -m benchmarks.map_speed", values)


if __name__ == "__main__":
    main()
