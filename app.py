"""The app: ``python app.py`` on a laptop, and the entry point of a Hugging Face Space."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from wsdemo.runtime import choose_threads, tune_allocator

tune_allocator()
choose_threads()

from wsdemo.domains.instances import warm_up
from wsdemo.limits import MAX_LORA_BYTES
from wsdemo.ui.blocks import build_blocks
from wsdemo.ui.lora.hub_row import login_handlers
from wsdemo.ui.shared.theme import CSS, JS, theme

demo = build_blocks()

if __name__ == "__main__":
    warm_up()
    demo.queue(max_size=32).launch(
        theme=theme(),
        css=CSS,
        js=JS,
        footer_links=["api", "gradio"],
        app_kwargs=login_handlers(),
        ssr_mode=False,  # needs Node, and shows white pages where that is missing
        max_file_size=MAX_LORA_BYTES,
        show_error=False,
        server_port=int(os.environ["PORT"]) if os.environ.get("PORT") else None,
        inbrowser=os.environ.get("WSDEMO_OPEN_BROWSER") == "1",
    )
