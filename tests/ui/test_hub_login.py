"""Signing in on a Space: the button is there and only there, and its token reaches the Hub.

tests/browser/test_sign_in.py presses it in a browser.
"""

from types import SimpleNamespace

import gradio as gr
import pytest

from wsdemo.hub.repository import Repository
from wsdemo.ui.lora import hub_row

LOGIN = gr.OAuthToken("of-the-login", "openid", 2**40)


@pytest.mark.parametrize("variables", [{}, {"SYSTEM": "spaces"}, {"OAUTH_CLIENT_ID": "id"}])
def test_there_is_no_button_off_spaces_and_without_oauth(monkeypatch, variables):
    for name in ("SYSTEM", "OAUTH_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not hub_row.offers_login()
    with gr.Blocks() as blocks:
        hub_row.build(gr.File(), gr.File())
    assert not blocks.expects_oauth


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
        return Repository("a/b", "0" * 40, (), None, (), "")

    monkeypatch.setattr(hub_row.hub, "resolve", resolve)
    hub_row.look("a/b", typed, login)
    assert asked == [used]
