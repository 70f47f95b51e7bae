"""The app as a program: ``wsdemo app``, ``python app.py``, and what a Space starts."""

import os
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from wsdemo.runtime import choose_threads, tune_allocator

tune_allocator()
choose_threads()

import wsdemo.ui.shared.gpu  # noqa: F401  (before torch)

# isort: split
import gradio as gr

from wsdemo.domains.instances import warm_up
from wsdemo.hub.checkpoints import use_named_repository
from wsdemo.limits import MAX_LORA_BYTES
from wsdemo.ui.api.tools import mend_tools
from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.lora.hub_row import login_handlers
from wsdemo.ui.shared.pictures import mend_pictures
from wsdemo.ui.shared.theme import CSS, JS, theme


def build() -> gr.Blocks:
    """The page, on the checkpoints that are there or can be fetched.

    Raises:
        WsdemoError: A checkpoint that it shows from the start is missing.
    """
    use_named_repository()
    return build_blocks()


def launch(page: gr.Blocks, **more: Any) -> Any:
    """Serves the page, as pages, as an API and as tools of MCP, at PORT if that is set.

    Args:
        page: What ``build`` made.
        **more: Of gradio's own ``launch``; with ``prevent_thread_lock=True`` it returns at once,
            else when the page is stopped.
    """
    warm_up()
    mend_pictures()
    return page.queue(max_size=64).launch(
        theme=theme(),
        css=CSS,
        js=JS,
        footer_links=["api", "gradio"],
        app_kwargs=login_handlers(),
        mcp_server=mend_tools(),
        ssr_mode=False,  # needs Node, and shows white pages where that is missing
        max_file_size=MAX_LORA_BYTES,
        show_error=False,
        server_port=int(os.environ["PORT"]) if os.environ.get("PORT") else None,
        inbrowser=os.environ.get("WSDEMO_OPEN_BROWSER") == "1",
        **more,
    )


if __name__ == "__main__":
    launch(build())
