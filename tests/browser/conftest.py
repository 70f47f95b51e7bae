"""The app in a process of its own, as a stranger starts it, and a browser to visit it with.

Fixtures of the scope *package*: the app starts once for all modules here.
"""

import pytest
from PIL import Image
from safetensors.torch import save

from benchmarks.browsing import CHROMIUM, FLAGS, served
from tests.hub.loopback import Hub
from tests.lora.files import families
from tests.media.shapes import torus
from wsdemo.media.mesh_files import mesh_bytes


@pytest.fixture(scope="package")
def loopback():
    """A Hub on this machine for the app to ask."""
    server = Hub()
    tensors, _, _ = families()["kohya"]
    server.files["acme/lora"] = {"a.safetensors": save(tensors), "b.safetensors": save(tensors)}
    yield server
    server.close()


@pytest.fixture(scope="package")
def address(loopback):
    """The app in a process of its own, as `make demo` starts it."""
    with served({"HF_ENDPOINT": loopback.address}) as url:
        yield url


@pytest.fixture(scope="package")
def drivers():
    """What launches browsers; a process can have one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(drivers):
    instance = drivers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield instance
    instance.close()


def opened(browser, address):
    """A fresh visitor's page, with the addresses that it asked for, once faces are there."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(address)
    page.get_by_role("button", name="Draw faces").wait_for(timeout=60_000)
    page.locator("#faces img").first.wait_for()
    return page


@pytest.fixture
def newcomer(browser, address):
    """The page of a visitor who has done nothing yet."""
    page = opened(browser, address)
    yield page
    page.context.close()


@pytest.fixture
def page(newcomer):
    """What a test looks at; some modules put ``visited`` in its place."""
    return newcomer


@pytest.fixture(scope="module")
def visited(browser, address):
    """The page of one visitor, who makes all of a module's tests that take it.

    To open a page takes some seconds of both cores: for tests that do not mind what was done before
    them, and begin where they choose the tab.
    """
    page = opened(browser, address)
    yield page
    page.context.close()


@pytest.fixture(scope="package")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    image = Image.new("RGB", (120, 90), (210, 160, 130))
    image.paste((50, 30, 30), (30, 5, 90, 40))
    image.save(path)
    return path


@pytest.fixture(scope="package")
def mesh(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "ring.glb"
    path.write_bytes(mesh_bytes(torus(), "glb"))
    return path
