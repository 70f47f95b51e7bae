"""The thing in hand: wherever a face or a shape is shown, one row of actions takes it on.

A tab lays out such a row beside what it shows (``Hand.row``) and says what it does with an
instance that comes from elsewhere (``Hand.on``). The page joins them when all tabs are there
(``Hand.wire``). What goes from one to the other is the path of an instance file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from wsdemo.errors import WsdemoError
from wsdemo.ui.shared.events import QUICK, guarded

ACTIONS = {
    "large": "Show large",
    "edit": "Edit",
    "vary": "Variations",
    "walk": "Walk to …",
    "place": "Place on the map",
    "read": "Read by GL-net",
}
DOWNLOAD = "Download its weights"


@dataclass(frozen=True)
class Row:
    """One row of actions.

    Attributes:
        source: The component whose value is the path of what is shown beside it.
        buttons: By action.
        trail: Its way on the map, where it was fitted here.
    """

    source: Any
    buttons: dict[str, gr.Button]
    trail: gr.State | None = None


@dataclass(frozen=True)
class Taker:
    """What a tab does with an instance from elsewhere.

    Attributes:
        take: (path, trail, values of ``inputs``) → values of ``outputs`` by name.
        inputs: Components.
        outputs: Components by name; those that ``take`` leaves out stay.
        after: (handler, inputs, outputs, queue) of what follows once that is on screen.
    """

    take: Callable[..., dict[str, Any]]
    inputs: Sequence[Any]
    outputs: dict[str, Any]
    after: tuple[Callable[..., Any], Sequence[Any], Sequence[Any], dict[str, Any]] | None = None


@dataclass
class Hand:
    """All rows of a page, all takers, and its tabs."""

    rows: list[Row] = field(default_factory=list)
    takers: dict[str, Taker] = field(default_factory=dict)
    tabs: dict[str, gr.Tabs] = field(default_factory=dict)

    def row(
        self, source: Any = None, without: Sequence[str] = (), trail: gr.State | None = None,
        value: str | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Lays out a row; its source is what it returns.

        Args:
            source: Default: the row's own download button, which is made here.
            without: Actions that make no sense here.
            trail: See Row.
            value: The file that the download button offers at first.
            options: Of the download button.
        """
        with gr.Row(elem_classes="wd-actions"):
            buttons = {
                action: gr.Button(words, size="sm", min_width=90)
                for action, words in ACTIONS.items() if action not in without
            }  # fmt: skip
            if source is None:
                source = gr.DownloadButton(
                    options.pop("label", DOWNLOAD), value=value, size="sm", min_width=90, **options
                )
        self.rows.append(Row(source, buttons, trail))
        return source

    def button(self, action: str) -> gr.Button:
        """An action's button in the row laid out last, for a tab that hides it at times."""
        return self.rows[-1].buttons[action]

    def on(self, action: str, taker: Taker) -> None:
        """Says what happens on an action."""
        self.takers[action] = taker

    def wire(self) -> None:
        """Joins every row with every taker; called once, when all are there."""
        nothing = gr.State([])
        for row in self.rows:
            for action, button in row.buttons.items():
                taker = self.takers[action]
                event = button.click(
                    _taking(taker),
                    [row.source, row.trail or nothing, *taker.inputs],
                    list(taker.outputs.values()),
                    api_visibility="private", show_progress="hidden", **QUICK,
                )  # fmt: skip
                if taker.after is not None:
                    handler, inputs, outputs, queue = taker.after
                    event.success(
                        handler, list(inputs), list(outputs), api_visibility="private", **queue
                    )


def _taking(taker: Taker) -> Callable[..., list[Any]]:
    """The handler of a click: refuses where nothing is shown yet."""

    @guarded
    def take(path: str | None, trail: list[tuple[float, float]], *values: Any) -> list[Any]:
        if path is None or not Path(path).is_file():
            raise WsdemoError(
                "Nothing in hand", "There is nothing here yet that could be taken along.",
                "Draw, fit or choose one first.",
            )  # fmt: skip
        updates = taker.take(path, trail, *values)
        return [updates.get(name, gr.skip()) for name in taker.outputs]

    return take


def opened(**tabs: str) -> dict[str, gr.Tabs]:
    """What opens tabs, by the names under which a page's ``Hand.tabs`` has them; for handlers."""
    return {name: gr.Tabs(selected=tab) for name, tab in tabs.items()}


def words_of(path: str) -> str:
    """What the thing in hand is called: its file's name."""
    return Path(path).stem.replace("-", " ")
