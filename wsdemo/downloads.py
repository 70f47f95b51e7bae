"""Where files from the Hub are kept on this machine, within a bound."""

import os
import shutil
import tempfile
from pathlib import Path

from wsdemo.limits import MAX_DOWNLOADS_BYTES


def downloads_folder() -> Path:
    """Where downloads of this user are kept; WSDEMO_DOWNLOADS names another place."""
    default = (
        Path(tempfile.gettempdir())
        / f"wsdemo-downloads-{os.getuid() if hasattr(os, 'getuid') else 0}"
    )
    return Path(os.environ.get("WSDEMO_DOWNLOADS") or default)


def make_room(folder: Path, size: int) -> None:
    """Deletes the oldest downloads until another of ``size`` bytes fits the bound."""
    if not folder.is_dir():
        return
    kept = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    sizes = {p: sum(f.stat().st_size for f in p.iterdir()) for p in kept}
    total = sum(sizes.values())
    for old in kept:
        if total + size <= MAX_DOWNLOADS_BYTES:
            return
        shutil.rmtree(old, ignore_errors=True)
        total -= sizes[old]
