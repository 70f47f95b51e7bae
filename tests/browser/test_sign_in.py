"""Signing in on a Space, from the button to a gated LoRA and out again, in a real browser.

Everything is on this machine and spoken over HTTP: the Hub, the OpenID provider, and the app as a
Space starts it, behind https. Unlike on a real Space, nobody vouches for the certificate, provider
and app share one host, and the page is not inside a frame of huggingface.co, where a browser that
blocks cookies of third parties makes gradio leave the frame.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys

import pytest
from safetensors.torch import save

from benchmarks.browsing import CHROMIUM, FLAGS, ROOT, wait_for_app
from tests.browser.visitor import NEEDS_CHROMIUM
from tests.hub.loopback import Hub
from tests.lora.files import families

pytestmark = NEEDS_CHROMIUM
SCOPES = "openid profile read-repos gated-repos"
OWNER = "hf_of_the_owner_of_the_space"


class Space:
    """The servers of the test, and what the app wrote to its log."""

    def __init__(self, folder):
        from tests.browser.space import Edge
        from tests.hub.openid import Provider

        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.hub, self.provider, self.edge = Hub(), Provider(SCOPES), Edge(folder, port)
        tensors, _, _ = families()["kohya"]
        for name, files in (("acme/gated", "ab"), ("acme/one", "a")):
            self.hub.files[name] = {f"{n}.safetensors": save(tensors) for n in files}
            self.hub.gated.add(name)
            self.hub.readers[name] = {self.provider.token}
        self.address, self.log = f"https://{self.edge.host}/", folder / "log"
        self.provider.redirect = f"{self.address}login/callback"
        environment = os.environ | {
            "PORT": str(port), "WSDEMO_DOWNLOADS": str(folder / "downloads"),
            "HF_ENDPOINT": self.hub.address, "HF_TOKEN": OWNER, "SYSTEM": "spaces",
            "SPACE_ID": "owner/wsdemo", "SPACE_HOST": self.edge.host, "OAUTH_SCOPES": SCOPES,
            "OAUTH_CLIENT_ID": self.provider.client, "OAUTH_CLIENT_SECRET": self.provider.secret,
            "OPENID_PROVIDER_URL": self.provider.address,
        }  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "app.py")], env=environment, stdout=log, stderr=log
            )
        wait_for_app(self.process, f"http://127.0.0.1:{port}/")

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        for server in (self.edge, self.provider, self.hub):
            server.close()


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    pytest.importorskip("authlib.integrations.starlette_client")
    own = Space(tmp_path_factory.mktemp("space"))
    yield own
    own.close()


@pytest.fixture(scope="module")
def browser(drivers, space):
    """One of its own, which takes the Space's certificate for good."""
    flags = [*FLAGS, space.edge.flag]
    instance = drivers.chromium.launch(executable_path=CHROMIUM, args=flags)
    yield instance
    instance.close()


def visitor(browser, space):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.goto(space.address)
    open_tab(page)
    return page


def open_tab(page):
    page.get_by_role("tab", name="LoRA evaluator").click(timeout=60_000)
    page.get_by_text("Private or gated repository").click()


def look(page):
    """Names the repository and chooses one of its two files."""
    page.locator("#hub-reference textarea, #hub-reference input").first.fill("acme/gated")
    page.locator("#hub-look").click()
    page.get_by_text("It holds 2 files: choose one").wait_for(timeout=90_000)
    page.locator("#hub-file input").click()
    page.get_by_role("option", name=re.compile("b.safetensors")).click()


def is_refused(page):
    """Reading is refused with the remedy, also to one who forces the button that is greyed out."""
    refusal = page.get_by_text(re.compile("Access must be granted first.*sign in"))
    refusal.first.wait_for(timeout=90_000)
    page.get_by_role("button", name="Close").last.click()
    refusal.first.wait_for(state="detached")
    page.locator("#hub-fetch:disabled").evaluate("b => { b.disabled = false; b.click() }")
    refusal.first.wait_for(timeout=90_000)
    return page.locator("#passport").get_by_text("acme/gated").count() == 0


def tokens(requests):
    """What the app said to the Hub of who is asking for the repository.

    huggingface_hub also fetches a list of its own, for which nobody needs to be named.
    """
    return {headers.get("authorization") for path, headers in requests if "acme/gated" in path}


def test_who_signs_in_comes_back_and_reads_a_gated_lora_and_nobody_else_does(browser, space):
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    link = space.address + "?lora=acme/one"  # as its card would link to it
    page.goto(link)
    refusal = page.locator("#hub-status").get_by_text("Access must be granted first")
    refusal.wait_for(timeout=60_000)
    for answer in ("Cancel", "Authorize"):
        page.get_by_text("Private or gated repository").click()
        page.get_by_role("button", name="Sign in with Hugging Face").click()
        page.get_by_role("link", name=answer).click()
        page.wait_for_url(link)  # back where it began
        if answer == "Cancel":
            refusal.wait_for(timeout=60_000)
    page.locator("#passport").get_by_text("acme/one").first.wait_for(timeout=60_000)
    page.get_by_text("Private or gated repository").click()
    page.get_by_role("button", name="Logout (visitor)").wait_for()
    look(page)
    page.get_by_text(re.compile(r"\d+ modules of rank")).wait_for(timeout=90_000)
    page.locator("#hub-fetch").click()
    page.locator("#passport").get_by_text("acme/gated").first.wait_for(timeout=90_000)
    asked = len(space.hub.requests)

    other = visitor(browser, space)
    look(other)
    assert is_refused(other)
    other.get_by_role("button", name="Sign in with Hugging Face").wait_for()
    assert tokens(space.hub.requests[:asked]) == {f"Bearer {space.provider.token}"}
    assert tokens(space.hub.requests[asked:]) == {None}

    (cookie,) = page.context.cookies(space.address)
    assert cookie["httpOnly"]
    assert cookie["secure"]
    with page.expect_navigation():
        page.get_by_role("button", name="Logout (visitor)").click()
    open_tab(page)
    look(page)
    assert is_refused(page)
    assert page.context.cookies(space.address) == other.context.cookies(space.address) == []

    assert space.provider.refused == []
    said = bytes(space.edge.sent) + space.log.read_bytes()
    assert len(said) > 100_000
    for secret in (space.provider.token, space.provider.secret, OWNER):
        assert secret.encode() not in said
