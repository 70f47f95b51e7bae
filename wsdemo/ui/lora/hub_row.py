"""Row of the LoRA evaluator: a LoRA from the Hugging Face Hub, judged before it is fetched."""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.hub import client as hub
from wsdemo.hub.reference import parse_reference
from wsdemo.hub.repository import CONFIG, Candidate, Repository
from wsdemo.limits import MAX_CANDIDATES
from wsdemo.lora.reader import judge_header
from wsdemo.ui.shared.events import HUB, guarded, guarded_stream, stop_button
from wsdemo.ui.shared.text import text_of


def given_token(token: str | None, login: gr.OAuthToken | None = None) -> str | None:
    """A visitor's token: the one typed in, else the one of the login; an empty field is none."""
    return (token or "").strip() or (login.token if login else None)


def offers_login() -> bool:
    """Whether visitors can sign in: on a Space whose README says ``hf_oauth: true``.

    Elsewhere gradio would imitate a login with the token of the machine's owner, and refuse to
    start without one.
    """
    if os.environ.get("SYSTEM") != "spaces" or not os.environ.get("OAUTH_CLIENT_ID"):
        return False
    try:  # gradio[oauth], which Spaces install; without it gradio would refuse to start
        import authlib.integrations.starlette_client  # noqa: F401
        import itsdangerous  # noqa: F401
    except ImportError:
        return False
    return True


def login_handlers() -> dict[str, Any]:
    """What the app's server needs besides gradio's own: who cancels signing in comes back."""
    if not offers_login():
        return {}
    from authlib.integrations.base_client.errors import OAuthError
    from fastapi.responses import RedirectResponse

    def back(request: Any, _: Exception) -> RedirectResponse:
        """To where the visitor was, on this page: never to another host."""
        target = urlsplit(request.query_params.get("_target_url", ""))
        return RedirectResponse("/" + (f"?{target.query}" if target.query else ""))

    return {"exception_handlers": {OAuthError: back}}


def token_field() -> gr.Textbox:
    """Where a visitor may give a token."""
    return gr.Textbox(
        label="Your token: used for these requests only, never stored or logged",
        type="password",
        max_length=200,
    )


def size_text(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 2**10:.1f} kB"


def described(peek: hub.Peek) -> tuple[str, bool]:
    """What the header alone says, or why the file is refused; and whether it holds a LoRA."""
    size = size_text(peek.candidate.size)
    if peek.fetched_bytes:
        size += f"; {peek.fetched_bytes:,} bytes read so far"
    try:
        words = judge_header(peek.header)
    except WsdemoError as error:
        return f"**{text_of(error.title)}.** {text_of(error.message, 400)} ({size}.)", False
    return f"{text_of(words, 400)} ({size}.)", True


def looked_up(
    text: str | None, token: str | None, login: gr.OAuthToken | None = None
) -> tuple[Repository, gr.Dropdown, str, bool]:
    """Resolves a reference, peeks at the file that is meant, offers a choice if it is unclear.

    Returns:
        The repository, its files, what to say, and whether the file that is meant holds a LoRA.
    """
    repository = hub.resolve(parse_reference(text or ""), given_token(token, login))
    status = f"Commit {repository.commit[:12]} of {text_of(repository.repo)}"
    if repository.is_offline:
        status = f"Offline, from the copies on this machine: {status}"
    if repository.base_model:
        status += f"; its card says it was made for {text_of(repository.base_model)}"
    chosen, shown = repository.chosen, repository.candidates[:MAX_CANDIDATES]
    if chosen is not None and chosen not in shown:
        shown = (chosen, *shown[:-1])
    choices = [(f"{c.path[:90]} ({size_text(c.size)})", c.path) for c in shown]
    holds_lora = False
    if chosen is not None:
        words, holds_lora = described(hub.peek(repository, chosen, given_token(token, login)))
        status += f". {words}"
    else:
        status += f". It holds {len(repository.candidates)} files: choose one"
        more = len(shown) < len(repository.candidates)
        status += f" of the first {len(shown)}, or name it: owner/name:path." if more else "."
    dropdown = gr.Dropdown(
        choices=choices, value=chosen.path if chosen else None, visible=len(choices) > 1
    )
    return repository, dropdown, status, holds_lora


def _candidate(repository: Repository | None, path: str | None) -> Candidate:
    named = [c for c in repository.candidates if c.path == path] if repository else []
    if not named:
        raise WsdemoError("No file chosen", "Look first, then choose a file.", "Press Look.")
    return named[0]


@guarded
def look(
    text: str | None, token: str | None, login: gr.OAuthToken | None = None
) -> tuple[Any, ...]:
    """What ``looked_up`` gives, and whether the file can be taken.

    ``login`` is filled in by gradio from its type: the visitor's own, None without a login.
    """
    *shown, holds_lora = looked_up(text, token, login)
    return *shown, gr.Button(interactive=holds_lora)


@guarded
def choose(
    repository: Repository | None,
    path: str | None,
    token: str | None,
    login: gr.OAuthToken | None = None,
) -> tuple[str, Any]:
    """Peeks at another file of the repository."""
    candidate = _candidate(repository, path)
    assert repository is not None
    text, holds_lora = described(hub.peek(repository, candidate, given_token(token, login)))
    return f"Commit {repository.commit[:12]}: {text}", gr.Button(interactive=holds_lora)


def fetched(
    repository: Repository | None,
    path: str | None,
    token: str | None,
    login: gr.OAuthToken | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Downloads the chosen file and hands it to the evaluator as if it had been dropped."""
    if repository is not None and path is None and repository.chosen is not None:
        path = repository.chosen.path
    candidate = _candidate(repository, path)
    assert repository is not None
    for done, place in hub.download(repository, candidate, given_token(token, login)):
        if place is None:
            share = done / max(1, candidate.size)
            yield gr.skip(), gr.skip(), f"{done / 2**20:.1f} MB, {share:.0%}"
        else:
            beside = place.with_name(CONFIG)
            settings = str(beside) if beside.is_file() else None
            whence = f"commit {repository.commit[:12]} of {text_of(repository.repo)}"
            source = (
                "Offline, read from the copy on this machine"
                if repository.is_offline
                else (f"Downloaded {size_text(candidate.size)}")
            )
            yield str(place), settings, f"{source}: {text_of(candidate.path)}, {whence}."


fetch = guarded_stream(fetched)


def follow(link: str | None, login: gr.OAuthToken | None = None) -> Iterator[tuple[Any, ...]]:
    """Looks up and fetches what a link to this page names; why it cannot stays on screen.

    Yields:
        The reference, what ``look`` gives, the file and its configuration.
    """
    if not link:  # a stream that says nothing would empty what it writes to
        yield tuple([gr.skip()] * 7)
        return
    stay = [gr.skip()] * 3
    yield link, None, gr.skip(), f"Asking the Hub for {text_of(link)}.", *stay
    try:
        repository, files, status, holds_lora = looked_up(link, None, login)
        take = gr.Button(interactive=holds_lora)
        yield gr.skip(), repository, files, status, take, gr.skip(), gr.skip()
        if not holds_lora:
            return
        for path, settings, status in fetched(repository, None, None, login):
            yield gr.skip(), gr.skip(), gr.skip(), status, gr.skip(), path, settings
    except WsdemoError as error:
        why = text_of(f"{error.message} {error.hint}", 600)
        yield gr.skip(), None, gr.skip(), f"**{text_of(error.title)}.** {why}", *stay


def link_of(request: gr.Request) -> Any:
    """The LoRA that the page's address names, if any."""
    return dict(request.query_params).get("lora") or gr.skip()


def build(file: gr.File, config: gr.File) -> None:
    """Lays out the row; what it fetches goes to ``file`` and ``config``."""
    state = gr.State(None)
    reference = gr.Textbox(
        label="or from the Hub: owner/name, owner/name@revision:path, or an address",
        placeholder="owner/my-lora",
        max_length=600,
        elem_id="hub-reference",
    )
    with gr.Accordion("Private or gated repository", open=False):
        if offers_login():
            gr.LoginButton(size="md", elem_id="hub-login")
        token = token_field()
    with gr.Row():
        button = gr.Button("Look", elem_id="hub-look", min_width=80)
        take = gr.Button("Fetch and read", interactive=False, elem_id="hub-fetch", scale=2)
        stop = gr.Button("Stop", variant="stop", min_width=80)
    files = gr.Dropdown(choices=[], label="File", visible=False, elem_id="hub-file")
    status = gr.Markdown(elem_classes="status", elem_id="hub-status")

    private: dict[str, Any] = {"api_visibility": "private", **HUB}
    named = [reference, token]
    gr.on([button.click, reference.submit], look, named, [state, files, status, take], **private)
    reference.change(  # until it is looked up, fetching would bring what was meant before
        lambda: gr.Button(interactive=False), None, take, api_visibility="private", queue=False,
        show_progress="hidden",
    )  # fmt: skip
    files.input(choose, [state, files, token], [status, take], **private)
    run = take.click(fetch, [state, files, token], [file, config, status], **private)
    stop_button(stop, run, status)
    link = gr.State(None)
    page = gr.context.Context.root_block
    assert page is not None
    page.load(link_of, None, link, api_visibility="private", queue=False, show_progress="hidden")
    followed = link.change(
        follow, link, [reference, state, files, status, take, file, config], **private
    )
    stop_button(stop, followed, status)
