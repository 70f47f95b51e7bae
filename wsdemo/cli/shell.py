"""How a command ends: its exit status, and what is said where.

0 done; 1 a bug, with its traceback; 2 refused, with ``{"error": {"title", "message", "hint"}}`` on
stdout under ``--json`` and the same in words on stderr else; 130 interrupted (Ctrl-C), 143 told to
end (SIGTERM), 141 nobody reads any more (a closed pipe): as the shell counts, and without a
traceback. Whatever ends a command, files are whole or as they were (wsdemo/files.py).
"""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from wsdemo.errors import WsdemoError
from wsdemo.files import explained

Result = dict[str, Any]
REFUSED, INTERRUPTED, UNREAD, TERMINATED = 2, 130, 141, 143


class Terminated(BaseException):
    """SIGTERM asks the command to end. No Exception: no handler of errors may keep it."""


def run_command(command: Callable[[], Result], as_json: bool) -> int:
    """Runs a command, shows its result, or says why there is none; returns the exit status."""
    with _signals() as statuses:
        try:
            result = command()
            _show(result, as_json)
            return 0 if result.get("ok", True) else REFUSED
        except BrokenPipeError:
            return _unread()
        except SystemExit:  # after --help
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()
                raise
            return _unread()
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Terminated:
            status = TERMINATED
        except Exception as error:
            if not statuses:
                return _refused(explained(error), as_json)
            status = statuses[0]  # an extension that was interrupted while it was imported
    word = "Interrupted" if status == INTERRUPTED else "Terminated"
    message = "It was asked to end; no file is half written."
    return _refused(WsdemoError(word, message), as_json, status)


def _show(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
    else:
        print("\n".join(_lines(result)))
    sys.stdout.flush()


LISTED = 6
"""Entries of a list that a person is shown; ``--json`` has all."""


def _lines(values: Mapping[str, Any], margin: str = "") -> Iterator[str]:
    """A line a value, those of a table of tables below its name."""
    for key, value in values.items():
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            yield f"{margin}{key}:"
            yield from _lines(value, margin + "  ")
        else:
            yield f"{margin}{key}: {_short(value)}"


def _short(value: Any) -> Any:
    """A value whose long lists are cut, with how many there are."""
    if isinstance(value, Mapping):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list) and len(value) > LISTED:
        return [*value[:LISTED], f"… {len(value)} in all, see --json"]
    return value


def _refused(error: WsdemoError, as_json: bool, status: int = REFUSED) -> int:
    try:
        if as_json:
            print(json.dumps({"error": error.as_dict()}), flush=True)
        else:
            lines = [f"{error.title}: {error.message}", error.hint]
            print("\n".join(line for line in lines if line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        _unread()
    return status


def _unread() -> int:
    """Sends what is still to be printed nowhere: Python would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return UNREAD


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Ends the command in order on Ctrl-C and SIGTERM, at once on the second; what was asked."""
    statuses: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield statuses
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        statuses.append(128 + number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    numbers = (signal.SIGINT, signal.SIGTERM)
    # Whoever started it may want a signal ignored: a job in the background of a script.
    older = {n: h for n in numbers if (h := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    try:
        for number in older:
            signal.signal(number, end)
        yield statuses
    finally:
        for number, handler in older.items():
            signal.signal(number, handler)
