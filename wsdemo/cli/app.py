"""``app``: the page in the browser. It is a program of its own, which this starts."""

import argparse
import os
import runpy
from typing import Any


def add_app_verb(verb: Any) -> None:
    """Adds ``app``."""
    app = verb("app", run_app, "Open the app in the browser.")
    app.add_argument(
        "--port", type=int, default=None, help="1 to 65535; default: PORT, or the first free one"
    )
    app.add_argument("--no-browser", action="store_true", help="only say where it is served")


def run_app(args: argparse.Namespace) -> dict[str, Any]:
    """``app``: serves the page until it is stopped."""
    if args.port is not None:
        os.environ["PORT"] = str(args.port)
    os.environ.setdefault("WSDEMO_OPEN_BROWSER", "0" if args.no_browser else "1")
    runpy.run_module("wsdemo.ui.app", run_name="__main__")
    return {"ok": True}
