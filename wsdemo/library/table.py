"""The library on disk: Parquet parts in a folder, each whole; DuckDB reads and writes them.

A row is written once more when its file has changed; the newest counts.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock, Timeout

from wsdemo.errors import WsdemoError
from wsdemo.files import whole
from wsdemo.library.row import COLUMNS

_PART = re.compile(r"part-(\d{6})\.parquet")


def parts(folder: Path) -> list[Path]:
    """The parts of a library, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _PART.fullmatch(p.name))


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Holds the library for one process, as long as it writes.

    Raises:
        WsdemoError: Another process builds it.
    """
    lock = FileLock(folder / ".building", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise WsdemoError(
            "Library in use",
            f"Another process is building {folder}.",
            "Wait for it, or choose another --out.",
        ) from error


def write_part(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Writes rows as the next part, whole or not at all."""
    last = parts(folder)
    number = int(last[-1].stem.removeprefix("part-")) + 1 if last else 0
    path = folder / f"part-{number:06d}.parquet"
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    holes = ", ".join("?" for _ in COLUMNS)
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        database.execute(f"CREATE TABLE rows ({columns})")
        values = [[row[name] for name in COLUMNS] for row in rows]
        database.executemany(f"INSERT INTO rows VALUES ({holes})", values)
        hidden = path.with_suffix(".writing")
        try:
            database.execute(f"COPY rows TO {_quoted(hidden)} (FORMAT parquet, COMPRESSION zstd)")
            with whole(path) as file:
                file.write(hidden.read_bytes())
        finally:
            hidden.unlink(missing_ok=True)
    return path


def opened(folder: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory with the newest row of every file, as the table ``loras``.

    It can reach no file and no network from here on, whatever it is asked.

    Raises:
        WsdemoError: There is no library in the folder, or a part of it is damaged.
    """
    found = parts(folder)
    if not found:
        raise WsdemoError(
            "No library",
            f"{folder} holds no part-….parquet.",
            "Build one: python -m wsdemo library build FOLDER --out LIBRARY",
        )
    database = duckdb.connect(":memory:", config={"threads": 1})
    listed = ", ".join(map(_quoted, found))
    columns = ", ".join(COLUMNS)
    try:
        database.execute(
            f"CREATE TABLE loras AS SELECT {columns} FROM"
            f" read_parquet([{listed}], filename = true)"
            " QUALIFY row_number() OVER (PARTITION BY file ORDER BY filename DESC) = 1"
            " ORDER BY file"
        )
    except duckdb.Error as error:
        raise WsdemoError(
            "Library damaged", str(error).splitlines()[0][:300], "Build it again."
        ) from error
    database.execute("SET enable_external_access = false; SET lock_configuration = true")
    return database


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
