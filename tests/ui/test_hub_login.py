"""Signing in on a Space: the button is there and only there, and its token reaches the Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from wsdemo.ui import hub_row

ROOT = Path(__file__).resolve().parent.parent.parent
SPACE = {"SYSTEM": "spaces", "SPACE_ID": "owner/wsdemo", "OAUTH_CLIENT_ID": "id",
         "OAUTH_CLIENT_SECRET": "secret", "OAUTH_SCOPES": "openid profile read-repos gated-repos",
         "OPENID_PROVIDER_URL": "https://hub.invalid", "SPACE_HOST": "space.invalid"}  # fmt: skip
LOGIN = gr.OAuthToken("of-the-login", "openid", 2**40)

CONFIG = """
import json
from wsdemo.ui.blocks import build_blocks
blocks = build_blocks()
config = blocks.get_config_file()
buttons = [c for c in config["components"] if c["props"].get("elem_id") == "hub-login"]
public = [d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public"]
print(json.dumps([len(buttons), blocks.expects_oauth, public]))
"""


def run(code, more):
    plain = {k: v for k, v in os.environ.items() if k not in SPACE}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**plain, **more}, capture_output=True,
        text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_there_is_no_button_off_spaces():
    assert not hub_row.offers_login()
    assert run(CONFIG, {})[:2] == [0, False]


def test_there_is_one_button_on_a_space_with_oauth():
    pytest.importorskip("authlib.integrations.starlette_client")
    assert run(CONFIG, SPACE)[:2] == [1, True]


@pytest.mark.parametrize(("expires", "given"), [(2**40, "mine"), (1, None), (None, None)])
@pytest.mark.parametrize("name", ["look", "choose", "fetch"])
def test_gradio_hands_the_login_of_a_session_to_the_handler(name, expires, given):
    from gradio.helpers import special_args

    handler = getattr(hub_row, name)
    own = {"access_token": "mine", "scope": "openid", "expires_at": expires}
    session = {"oauth_info": own} if expires else {}
    typed = ["a/b", ""] if name == "look" else [None, None, ""]
    request = SimpleNamespace(scope={"session": session})
    inputs = special_args(handler, list(typed), request)[0]
    assert inputs[:-1] == typed
    assert (inputs[-1].token if inputs[-1] else None) == given


@pytest.mark.parametrize(
    ("typed", "login", "used"),
    [("", None, None), ("", LOGIN, "of-the-login"), (" mine ", LOGIN, "mine"), (None, None, None)],
)
def test_a_typed_token_comes_before_the_login(monkeypatch, typed, login, used):
    asked = []

    def resolve(reference, token=None):
        asked.append(token)
        return hub_row.hub.Repository("a/b", "0" * 40, (), None, (), "")

    monkeypatch.setattr(hub_row.hub, "resolve", resolve)
    hub_row.look("a/b", typed, login)
    assert asked == [used]
