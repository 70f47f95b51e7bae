"""What handlers do when the machine cannot: a titled message, and bugs stay bugs."""

import errno

import gradio as gr
import pytest

from wsdemo.errors import WsdemoError
from wsdemo.ui.shared.events import guarded, guarded_stream


@pytest.mark.parametrize(
    ("error", "said"),
    [(WsdemoError("Bad", "x", "y"), "Bad"),
     (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "No room for a file"),
     (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Not enough memory"),
     (MemoryError(), "Not enough memory")],
)  # fmt: skip
def test_what_the_machine_refuses_is_said(error, said):
    def fail():
        raise error

    def stream():
        yield 1
        raise error

    with pytest.raises(gr.Error, match=said):
        guarded(fail)()
    with pytest.raises(gr.Error, match=said):
        list(guarded_stream(stream)())


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shapes"), OSError("x")])
def test_a_bug_is_not_explained_away(error):
    def fail():
        raise error

    with pytest.raises(type(error), match=str(error)):
        guarded(fail)()
