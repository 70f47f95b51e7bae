"""Files that are there whole or not at all.

What is written lies beside its place until it is complete, without a name where the system knows
such files (Linux, ``O_TMPFILE``), and takes its place in one step. A full disk, Ctrl-C or a kill
leaves the older file as it was, and nothing else: not even the folders that were to hold it.
"""

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from wsdemo.errors import WsdemoError, refuse_lack_of_memory

_HIDDEN, _PART = ".wsdemo-", ".part"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GIVEN_UP = 86_400.0
"""Seconds after which nobody writes to a hidden file any more: its process was killed."""


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A new file to write to, which takes the place of ``path`` if that ends well.

    Folders that lack are made then. A link is followed, and the rights of an older file are kept.

    Raises:
        OSError: The system refuses; it says which file.
    """
    target = Path(os.path.realpath(path))
    made: list[Path] = []
    hidden: Path | None = None
    try:
        descriptor, hidden = _unnamed(existing_folder(target)) or _named(_folder(target, made))
        with os.fdopen(descriptor, "wb") as file:
            yield cast(BinaryIO, file)
            file.flush()
            # Of a file that is not there yet, and on Windows, there are no such rights.
            with contextlib.suppress(OSError, AttributeError):
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
            os.fsync(descriptor)
            _folder(target, made)
            if hidden is None:
                hidden = _linked(descriptor, target)
        if hidden is not None:
            os.replace(hidden, target)
    except BaseException as error:
        if hidden is not None:
            with contextlib.suppress(OSError):
                hidden.unlink()
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # another process has put something there
                folder.rmdir()
        if isinstance(error, OSError) and error.filename in (None, str(hidden)):
            error.filename, error.filename2 = str(path), None
        raise


def write_whole(path: Path, content: bytes | str) -> int:
    """Writes a whole file (text in UTF-8); returns its size in bytes.

    Raises:
        OSError: The system refuses; the older file is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    with whole(path) as file:
        file.write(data)
    return len(data)


def existing_folder(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next(p for p in Path(os.path.realpath(path)).parents if os.path.lexists(p))


def check_place(path: Path) -> None:
    """Checks that a file can be written, or replaced, before the work; makes nothing.

    Raises:
        WsdemoError: A folder is there, or something else that is no file, or a file that may not
            be written; or its folder may not be.
    """
    if path.is_dir():
        raise WsdemoError("Not a file", f"{path} is a folder.", "Name a file in it.")
    if path.exists() and not path.is_file():
        raise WsdemoError("Not a file", f"{path} is a device or a pipe.", "Name an ordinary file.")
    if path.exists() and not os.access(path, os.W_OK):
        raise WsdemoError(
            "File not writable", f"{path} is protected against writing.", "Name another file."
        )
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Checks that files can be written into a folder, which may lack still; makes nothing.

    Raises:
        WsdemoError: A file stands where a folder is to be, or the system refuses.
    """
    existing = existing_folder(folder / "x")
    if not existing.is_dir():
        raise WsdemoError("Not a folder", f"{existing} is a file.", "Choose another --out.")
    try:
        descriptor, hidden = _unnamed(existing) or _named(existing)
        os.close(descriptor)
        if hidden is not None:
            hidden.unlink()
    except OSError as error:
        raise WsdemoError(
            "Folder not writable", f"{existing}: {error.strerror}.", "Choose another --out."
        ) from error


# ---- what the machine refuses ------------------------------------------------------------


def unwritable(error: OSError) -> WsdemoError:
    """What to say when the system refuses a file."""
    where = error.filename or "a file"
    if error.errno in _FULL:
        return WsdemoError(
            "No room for a file",
            f"{where}: {error.strerror}. An older file of that name is as it was.",
            "Free some space, or choose another disk with --out.",
        )
    return WsdemoError("File not accessible", f"{where}: {error.strerror}.", "Choose another path.")


def explained(error: Exception) -> WsdemoError:
    """The refusal that an error stands for, if the machine lacks memory or refuses a file.

    Raises:
        Exception: The error, if it stands for none.
    """
    if isinstance(error, WsdemoError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return unwritable(error)
    try:
        refuse_lack_of_memory(error)
    except WsdemoError as lack:
        return lack
    raise error


# ---- how it is done ----------------------------------------------------------------------


def _folder(target: Path, made: list[Path]) -> Path:
    """The folder of a file; what lacks of it is made, and added to ``made``."""
    lacking = [p for p in target.parents if not os.path.lexists(p)]
    for folder in reversed(lacking):
        with contextlib.suppress(FileExistsError):  # another process was faster
            folder.mkdir()
            made.append(folder)
    return target.parent


def _unnamed(folder: Path) -> tuple[int, None] | None:
    """An open file without a name, which is gone with its process; None where there are none."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, flag | os.O_RDWR, 0o666), None
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            return None  # a file system without them
        raise


def _linked(descriptor: int, target: Path) -> Path | None:
    """Gives an unnamed file its name, or, where that is taken, a hidden one, which is returned."""
    source = f"/proc/{os.getpid()}/fd/{descriptor}"
    # With a descriptor of a folder, which an absolute path makes meaningless, the link is followed.
    try:
        os.link(source, target, src_dir_fd=descriptor)
    except FileExistsError:
        hidden = _hidden(target.parent)
        os.link(source, hidden, src_dir_fd=descriptor)
        return hidden
    return None


def _hidden(folder: Path) -> Path:
    return folder / f"{_HIDDEN}{secrets.token_hex(8)}{_PART}"


def _named(folder: Path) -> tuple[int, Path]:
    """An open file with a hidden name, where others that were given up are deleted."""
    for old in folder.glob(f"{_HIDDEN}*{_PART}"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > _GIVEN_UP:
                old.unlink()
    hidden = _hidden(folder)
    return os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), hidden
