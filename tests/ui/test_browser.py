"""The app in a real browser, as a stranger would use it."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save

from tests.hub.loopback import Hub
from tests.lora.files import families, rand, write
from tests.media.shapes import torus
from wsdemo import maps
from wsdemo.media.mesh_files import mesh_bytes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MUST_RUN = os.environ.get("CI") == "true"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and not MUST_RUN,
        reason="NO CHROMIUM: the browser tests did not run; install Debian's chromium",
    ),
]
ROOT = Path(__file__).resolve().parent.parent.parent
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def loopback():
    """A Hub on this machine for the app to ask."""
    server = Hub()
    tensors, _, _ = families()["kohya"]
    server.files["acme/lora"] = {"a.safetensors": save(tensors), "b.safetensors": save(tensors)}
    yield server
    server.close()


@pytest.fixture(scope="module")
def address(loopback):
    """The app in a process of its own, as `make demo` starts it."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PORT": str(port), "WSDEMO_OPEN_BROWSER": "0", "HF_ENDPOINT": loopback.address,
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=environment)
    url = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            break
        except OSError:
            assert process.poll() is None, "the app ended while starting"
            assert time.monotonic() < deadline, "the app did not start within 90 s"
            time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(browser, address):
    """A fresh visitor on the page, with the console's errors collected."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(address)
    page.get_by_role("button", name="Draw faces").wait_for(timeout=60_000)
    yield page
    context.close()


def status_text(page) -> str:
    return " ".join(page.locator(".status").all_inner_texts())


def wait_for_status(page, pattern: str, seconds: float = 90) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        text = status_text(page)
        if re.search(pattern, text):
            return text
        page.wait_for_timeout(100)
    raise AssertionError(f"status never matched {pattern!r}: {status_text(page)!r}")


def sources(page) -> list[str]:
    return [i.get_attribute("src") or "" for i in page.locator("#faces img").all()]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    image = Image.new("RGB", (120, 90), (210, 160, 130))
    image.paste((50, 30, 30), (30, 5, 90, 40))
    image.save(path)
    return path


def upload(page, area: str, path: Path) -> None:
    """Gives a file to the upload area with an id, through the browser's file chooser."""
    button = page.locator(f"#{area} button[aria-dropeffect]").first
    button.wait_for()
    with page.expect_file_chooser() as chooser:
        button.click()
    chooser.value.set_files(path)


def upload_over(page, path: Path) -> None:
    """Gives a photo in the place of the one that is there."""
    page.locator("#photo input[type=file]").set_input_files(path)
    page.wait_for_timeout(1500)


# ---- the page ------------------------------------------------------------------------


def test_faces_are_on_screen_before_the_first_click_and_nothing_is_fetched_elsewhere(page, address):
    page.locator("#faces img").first.wait_for()
    assert len(sources(page)) >= 8
    assert page.locator("h1").count() == 1
    foreign = [u for u in page.requested if not u.startswith((address, "data:", "blob:"))]
    assert foreign == []


def test_a_click_draws_other_faces_and_selecting_one_shows_its_file(page, tmp_path):
    page.locator("#faces img").first.wait_for()
    before = sources(page)
    page.get_by_role("button", name="Draw faces").click()
    wait_for_status(page, r"8 faces, seed 7")
    assert set(sources(page)).isdisjoint(before)
    page.locator("#faces button:has(img)").nth(2).click()
    page.get_by_text("Nearest training face in weight space").wait_for(timeout=30_000)
    page.locator("#rendered img").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download its weights").or_(
            page.get_by_role("button", name="Download its weights")
        ).first.click()
    saved = tmp_path / "face.safetensors"
    download.value.save_as(saved)
    from wsdemo.pipelines import open_instance

    assert open_instance(saved).adapter.config.representation == "mlora-asym"


def open_fit(page, photo: Path) -> None:
    page.get_by_role("tab", name="Fit").click()
    upload(page, "photo", photo)
    page.locator("#crop img").wait_for(timeout=30_000)


def test_a_photo_becomes_weights_while_one_watches(page, photo):
    open_fit(page, photo)
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"dB after \d+ steps, \d+ s left")
    page.locator("#preview img").wait_for()
    text = wait_for_status(page, r"Done: [\d.]+ dB")
    assert float(re.search(r"Done: ([\d.]+) dB", text).group(1)) > 20
    page.get_by_text("mlora-asym, rank 8").wait_for()
    page.get_by_role("tab", name="Clusters").click()
    page.locator("#map-mine").click()
    page.get_by_text("and the way it went there in").wait_for(timeout=30_000)
    page.locator("#map-point img").wait_for(timeout=30_000)


def test_stop_ends_a_fit(page, photo):
    open_fit(page, photo)
    page.get_by_label("Fine: 20 s, rank 18").check()
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"s left")
    page.get_by_role("button", name="Stop").last.click()
    wait_for_status(page, r"Stopped", seconds=15)
    page.wait_for_timeout(2500)
    assert "Stopped" in status_text(page)


def test_stopped_faces_can_be_looked_at(page):
    page.get_by_text("Sampler", exact=True).first.click()
    for name, value in (("Faces", "16"), ("Denoising steps (DDIM)", "100")):
        page.get_by_label(f"number input for {name}").first.fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Draw faces").click()
    page.locator("#faces img").nth(15).wait_for(timeout=30_000)
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop").locator("visible=true").first.click()
    wait_for_status(page, r"Stopped", seconds=15)
    page.wait_for_timeout(2000)
    assert page.locator("span.error").locator("visible=true").count() == 0
    page.locator("#faces button:has(img)").nth(9).click()
    page.get_by_text("Nearest training face in weight space").wait_for(timeout=30_000)


def test_a_stopped_fit_shows_and_offers_its_own_weights(page, photo):
    open_fit(page, photo)
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"Done: [\d.]+ dB")
    upload_over(page, ROOT / "wsdemo/ui/examples/cat.png")
    page.get_by_label("Fine: 20 s, rank 18").check()
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"s left")
    assert page.get_by_text("mlora-asym, rank 8").count() == 0
    page.get_by_role("button", name="Stop").locator("visible=true").first.click()
    wait_for_status(page, r"Stopped after \d+ steps: [\d.]+ dB", seconds=15)
    page.get_by_text("mlora-asym, rank 18").wait_for()


def test_a_bad_photo_in_the_place_of_another_is_refused_once(page, photo, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    open_fit(page, photo)
    asked = []
    page.on("request", lambda r: asked.append(r) if "queue/join" in r.url else None)
    upload_over(page, bad)
    page.get_by_text(re.compile("Picture unreadable|Not a picture")).first.wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    assert len(asked) == 1
    page.locator("button.gallery-item").locator("visible=true").first.click()
    page.locator("#crop img").wait_for(timeout=30_000)


def test_all_faces_fit_on_a_narrow_screen_and_the_curve_has_its_axis(page, photo):
    open_fit(page, photo)
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, r"Done: [\d.]+ dB")
    plot, block = (page.locator(s).bounding_box() for s in ("#psnr svg.marks", "#psnr"))
    assert plot["y"] + plot["height"] <= block["y"] + block["height"]
    page.set_viewport_size({"width": 390, "height": 800})
    facts = page.locator("table", has_text="Representation").first.bounding_box()
    assert facts["y"] > page.get_by_text("Photo · fitted").first.bounding_box()["y"] + 200
    page.get_by_role("tab", name="Sample").click()
    boxes = [i.bounding_box() for i in page.locator("#faces img").all()]
    assert len(boxes) >= 8
    assert all(b["x"] >= 0 and b["x"] + b["width"] <= 390 and b["width"] > 120 for b in boxes)


def test_a_file_that_is_no_picture_is_refused_and_the_app_lives(page, photo, tmp_path):
    bad = tmp_path / "photo.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    page.get_by_role("tab", name="Fit").click()
    upload(page, "photo", bad)
    page.get_by_text(re.compile("Picture unreadable|Not a picture")).first.wait_for(timeout=30_000)
    page.reload()
    page.get_by_role("button", name="Draw faces").wait_for()
    open_fit(page, photo)


def test_a_foreign_safetensors_file_is_refused_by_name(page, tmp_path):
    import torch
    from safetensors.torch import save_file

    foreign = tmp_path / "foreign.safetensors"
    save_file({"lora_A": torch.zeros(2, 2)}, foreign)
    page.get_by_role("tab", name="Fit").click()
    upload(page, "instance", foreign)
    page.get_by_text("Not an instance of this app").first.wait_for(timeout=30_000)


def test_two_visitors_see_their_own_faces(browser, address):
    pages = []
    for seed in ("11", "22"):
        page = browser.new_context().new_page()
        page.goto(address)
        page.get_by_label("Seed", exact=True).wait_for(timeout=60_000)
        page.get_by_label("Seed", exact=True).fill(seed)
        page.get_by_label("Seed", exact=True).press("Tab")
        pages.append(page)
    for page in pages:
        page.get_by_role("button", name="Draw faces").click()
    for page, seed in zip(pages, ("11", "22"), strict=True):
        wait_for_status(page, rf"seed {seed},")
    assert set(sources(pages[0])).isdisjoint(sources(pages[1]))
    for page in pages:
        page.context.close()


def test_two_visitors_fit_and_drop_at_once_and_see_their_own(browser, address, photo, tmp_path):
    other = tmp_path / "other.png"
    Image.new("RGB", (90, 90), (20, 40, 200)).save(other)
    loras = [
        write(tmp_path / f"{name}.safetensors", families()[name][0], {})
        for name in ("kohya", "loralib")
    ]
    pages = []
    for picture in (photo, other):
        page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        page.goto(address)
        page.get_by_role("button", name="Draw faces").wait_for(timeout=60_000)
        open_fit(page, picture)
        pages.append(page)
    for page in pages:
        page.get_by_role("button", name="Fit", exact=True).click()
    for page in pages:
        wait_for_status(page, r"Done: [\d.]+ dB")
    shown = [page.locator("#preview img").first.get_attribute("src") for page in pages]
    assert shown[0] != shown[1]
    for page, lora in zip(pages, loras, strict=True):
        page.get_by_role("tab", name="LoRA evaluator").click()
        upload(page, "lora", lora)
    for page, family in zip(pages, ("kohya", "loralib"), strict=True):
        page.get_by_text("Size of the update").wait_for(timeout=30_000)
        assert family in page.locator("#passport").inner_text()
    first, second = pages
    first.get_by_text("A predictor of your own").click()
    upload(first, "predictor-file", ROOT / "checkpoints/lol-face-fields.safetensors")
    first.locator("#predictor-use").click()
    first.get_by_text("Asked first from now on").wait_for(timeout=30_000)
    assert second.get_by_text("Asked first from now on").count() == 0
    for page in pages:
        page.context.close()


def open_shapes(page) -> None:
    page.get_by_role("tab", name="Shapes").click()
    page.locator("#shapes img").first.wait_for()


def test_shapes_are_drawn_and_one_can_be_turned_around(page, tmp_path):
    open_shapes(page)
    page.get_by_role("button", name="Draw shapes").click()
    wait_for_status(page, r"8 shapes, seed 7")
    page.locator("#shapes button:has(img)").nth(1).click()
    page.get_by_text("Nearest training shape in weight space").wait_for(timeout=60_000)
    page.locator('a[href*="shape.stl"]').first.wait_for(state="attached", timeout=30_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download its weights").or_(
            page.get_by_role("link", name="Download its weights")
        ).locator("visible=true").first.click()
    saved = tmp_path / "shape.safetensors"
    download.value.save_as(saved)
    from wsdemo.pipelines import open_instance

    assert open_instance(saved).domain == "sdf"


def test_a_mesh_becomes_weights_while_one_watches(page, mesh):
    page.get_by_role("tab", name="Fit").click()
    page.get_by_role("tab", name="A mesh").click()
    upload(page, "mesh", mesh)
    page.get_by_text("watertight").first.wait_for(timeout=30_000)
    page.get_by_role("button", name="Fit the mesh").click()
    wait_for_status(page, r"dB after \d+ steps, \d+ s left")
    page.locator("#surface img").wait_for()
    wait_for_status(page, r"Done: F-score [\d.]+%, IoU [\d.]+%")
    page.get_by_text("Chamfer distance").first.wait_for()


def test_a_file_that_is_no_mesh_is_refused(page, tmp_path):
    bad = tmp_path / "bad.obj"
    bad.write_text("v 0 0 0\n")
    page.get_by_role("tab", name="Fit").click()
    page.get_by_role("tab", name="A mesh").click()
    upload(page, "mesh", bad)
    page.get_by_text(re.compile("No faces|Mesh unreadable|Empty mesh")).first.wait_for(
        timeout=30_000
    )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "ring.glb"
    path.write_bytes(mesh_bytes(torus(), "glb"))
    return path


def test_a_lora_shows_its_passport_and_markup_in_it_stays_text(page, tmp_path):
    tensors, _, _ = families()["kohya"]
    meta = {"ss_base_model_version": "sdxl <img src=x onerror=alert(1)>"}
    lora = write(tmp_path / "lora.safetensors", tensors, meta)
    page.on("dialog", lambda dialog: pytest.fail("a text of the file ran as script"))
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", lora)
    page.get_by_text("Size of the update").wait_for(timeout=30_000)
    page.get_by_text("sdxl <img src=x onerror").first.wait_for()
    assert page.locator("#passport img").count() == 0
    page.get_by_role("button", name="Re-gauge by a random R").click()
    page.get_by_text("cosine of the updates 1.0000").wait_for(timeout=30_000)


def test_what_is_no_lora_is_refused_in_the_tab(page, tmp_path):
    path = write(tmp_path / "x.safetensors", {"m.ia3_l": rand(4, 1)})
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", path)
    page.get_by_text("IA3 adapter").first.wait_for(timeout=30_000)


def test_a_lora_from_the_hub_is_judged_chosen_fetched_and_read(page):
    page.get_by_role("tab", name="LoRA evaluator").click()
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/none")
    page.locator("#hub-look").click()
    page.get_by_text("No such repository").first.wait_for(timeout=30_000)
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/lora")
    page.locator("#hub-look").click()
    page.get_by_text("It holds 2 files: choose one").wait_for(timeout=30_000)
    page.locator("#hub-file input").click()
    page.get_by_role("option", name=re.compile("b.safetensors")).click()
    page.get_by_text(re.compile(r"\d+ modules of rank")).wait_for(timeout=30_000)
    page.locator("#hub-fetch").click()
    page.get_by_text("Size of the update").wait_for(timeout=30_000)
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/other")
    page.locator("#hub-fetch:disabled").wait_for(timeout=15_000)


def test_a_fitted_face_is_predicted_explained_and_gauge_invariant(page, tmp_path):
    from wsdemo import maps

    found = maps.weight_map("faces")
    path = tmp_path / "face.safetensors"
    maps.point_instance(found, len(found) - 1).save(path)
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", path)
    page.locator("#prediction table").wait_for(timeout=30_000)
    assert page.locator("#prediction tbody tr").count() == 40
    page.get_by_role("button", name="Re-gauge and predict again").click()
    page.locator("#gauge table").wait_for(timeout=30_000)
    for row in page.locator("#gauge tbody tr").all():
        cells = row.locator("td").all_inner_texts()
        assert cells[0] == cells[1]
        assert cells[2] != cells[3]


def test_a_foreign_lora_gets_no_prediction_and_the_reason(page, tmp_path):
    tensors, _, _ = families()["kohya"]
    page.get_by_role("tab", name="LoRA evaluator").click()
    upload(page, "lora", write(tmp_path / "lora.safetensors", tensors, {}))
    page.locator("#prediction", has_text="No prediction").wait_for(timeout=30_000)
    assert "lol train" in page.locator("#prediction").inner_text()


def test_the_map_opens_points_by_mouse_and_by_keyboard(page):
    page.get_by_role("tab", name="Clusters").click()
    canvas = page.locator(".wm-canvas")
    canvas.wait_for()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#map-point img").wait_for(timeout=30_000)
    first = page.locator("#map-said").inner_text()
    page.locator("#map-near img").first.wait_for(timeout=30_000)
    page.get_by_role("button", name="Walk from here").click()
    page.get_by_text("The walk begins").wait_for(timeout=15_000)
    page.get_by_role("button", name="The map as a table").click()
    page.locator("#map-table [role=gridcell]").nth(7).click()
    page.locator("#map-said", has_text="(").wait_for(timeout=30_000)
    assert page.locator("#map-said").inner_text() != first
    page.locator("#map-vary").click()
    page.locator("#map-varied img").first.wait_for(timeout=60_000)
    page.locator("#map-measure").click()
    page.get_by_text("k-means ARI").wait_for(timeout=60_000)


def test_the_map_of_faces_by_lora_shows_and_opens_what_was_fitted_so(page):
    """Only some faces were fitted as LoRA; keys and Enter stay among them."""
    faces = maps.weight_map("faces")
    page.get_by_role("tab", name="Clusters").click()
    page.locator(".wm-canvas").wait_for()
    page.get_by_text("faces", exact=True).first.click()
    page.locator(".wm-legend", has_text="male").wait_for(timeout=15_000)
    page.get_by_label("Weights").click()
    page.get_by_role("option", name="lora", exact=True).click()
    page.wait_for_timeout(3000)  # the canvas says nothing of what it drew
    canvas = page.locator(".wm-canvas")
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.locator("#map-near img").first.wait_for(timeout=30_000)
    opened = page.locator("#map-said").inner_text().split(" ")[0]
    assert faces.covered("lora")[faces.names.index(opened)]
    page.locator("#map-measure").click()
    page.get_by_text("500 held-out instances against 2,000").wait_for(timeout=60_000)
    page.get_by_role("button", name="Walk from here").click()
    page.get_by_text("The walk begins").wait_for(timeout=15_000)
    canvas.focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="to here").click()
    page.locator("#map-walk img").first.wait_for(timeout=30_000)
    page.get_by_role("button", name="The same walk").click()
    page.locator("#map-beside").click()
    page.locator("#map-walks img").nth(27).wait_for(timeout=60_000)
    page.get_by_text("mlora-asym: PSNR").wait_for(timeout=15_000)


def test_the_last_fit_on_the_map_brings_its_controls_along_and_ends_a_walk(page, photo):
    open_fit(page, photo)
    page.get_by_text("As the training faces").first.click()
    page.get_by_role("button", name="Fit", exact=True).click()
    wait_for_status(page, "Done")
    page.get_by_role("tab", name="Clusters").click()
    page.locator(".wm-canvas").wait_for()
    page.get_by_role("button", name="The map as a table").click()
    page.locator("#map-mine").click()
    page.locator("#map-said", has_text="Your fit").wait_for(timeout=30_000)
    page.locator("#map-table th", has_text="Male").first.wait_for(timeout=15_000)
    page.get_by_role("button", name="Walk from here").click()
    page.get_by_text("The walk begins at your instance").wait_for(timeout=15_000)
    page.locator("#map-table [role=gridcell]").nth(7).click()
    page.locator("#map-said", has_text=".jpg").wait_for(timeout=15_000)  # a face, not a shape
    page.get_by_role("button", name="to here").click()
    page.locator("#map-mixed img").wait_for(timeout=30_000)
    page.locator("#map-share input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("At 52% of the way").wait_for(timeout=15_000)
    page.locator("#map-measure").click()
    page.locator("#map-figures", has_text="Male: k-means ARI").wait_for(timeout=60_000)
    page.get_by_text("shapes", exact=True).first.click()
    page.locator("#map-table th", has_text="category").first.wait_for(timeout=15_000)
    assert page.locator("#map-begins").inner_text() == ""
    assert page.locator("#map-mixed img").count() == 0


def test_a_face_of_the_map_is_edited_and_regauged(page):
    page.get_by_role("tab", name="Clusters").click()
    page.get_by_role("tab", name="Edit a face").click()
    page.locator("#edit-go").click()
    page.locator("#edited img").wait_for(timeout=30_000)
    page.locator("#edit-said", has_text="Changed by").wait_for(timeout=30_000)
    page.get_by_role("tab", name="Symmetry").click()
    page.locator("#symmetry-go").click()
    page.locator("#symmetry-said", has_text="canonical factors by 0.00%").wait_for(timeout=30_000)


def test_named_endpoints_answer(address):
    """The API that other programs use: draw, and fit to the end."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    gallery, text = client.predict(2, 5, 5, 1.0, [], [], api_name="/sample_faces")
    assert len(gallery) == 2
    assert "2 faces, seed 5" in text
    photo = str(ROOT / "wsdemo" / "ui" / "examples" / "astronaut.png")
    preset = "Fast: 4 s, rank 8"
    result = client.predict(handle_file(photo), 0.5, 0.5, 1, preset, api_name="/fit_picture")
    assert "Done" in result[2]
    gallery, text = client.predict("Airplanes", "any", 1, 5, 5, 1.0, api_name="/sample_shapes")
    assert "1 shapes, seed 5" in text
    assert Path(result[5]).stat().st_size > 10_000


def test_no_accessibility_violations(page):
    from axe_playwright_python.sync_playwright import Axe

    tabs = ("Sample", "Shapes", "Fit", "A mesh", "LoRA evaluator", "Clusters", "Edit a face",
            "Symmetry")  # fmt: skip
    for tab in tabs:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(800)
        found = Axe().run(page).response["violations"]
        text = [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found]
        assert text == []
