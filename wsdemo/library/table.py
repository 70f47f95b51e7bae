"""The library on disk: Parquet parts in a folder, each whole; DuckDB reads and writes them.

A row is written once more when its file has changed; the newest counts.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from filelock import FileLock, Timeout

from wsdemo.errors import WsdemoError
from wsdemo.files import whole
from wsdemo.library.row import COLUMNS

VECTOR = "FLOAT[]"
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
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        _fill(database, rows)
        hidden = path.with_suffix(".writing")
        try:
            database.execute(f"COPY rows TO {_quoted(hidden)} (FORMAT parquet, COMPRESSION zstd)")
            with whole(path) as file:
                file.write(hidden.read_bytes())
        finally:
            hidden.unlink(missing_ok=True)
    return path


def part_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as a part, for whoever keeps them elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        return write_part(Path(folder), rows).read_bytes()


def _fill(database: duckdb.DuckDBPyConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Makes the table ``rows``. Vectors go in as arrays: number by number they take seconds."""
    plain = [name for name, kind in COLUMNS.items() if kind != VECTOR]
    columns = ", ".join(f"{_named(name)} {COLUMNS[name]}" for name in plain)
    holes = ", ".join("?" for _ in ("place", *plain))
    database.execute(f"CREATE TABLE plain (place INTEGER, {columns})")
    values = [[i, *(_value(name, row[name]) for name in plain)] for i, row in enumerate(rows)]
    database.executemany(f"INSERT INTO plain VALUES ({holes})", values)
    vectors = [name for name, kind in COLUMNS.items() if kind == VECTOR]
    joins = ""
    for name in vectors:
        arrays = [
            np.asarray(row[name] if row[name] is not None else (), np.float32) for row in rows
        ]
        counts = [len(vector) for vector in arrays]
        numbers = {
            "place": np.repeat(np.arange(len(rows)), counts),
            "nth": np.concatenate([np.arange(count) for count in counts]),
            "value": np.concatenate(arrays),
        }
        database.register(f"numbers_{name}", numbers)
        joins += (
            f" LEFT JOIN (SELECT place, list(value ORDER BY nth) AS {name} FROM numbers_{name}"
            f" GROUP BY place) AS of_{name} USING (place)"
        )
    names = ", ".join(map(_named, COLUMNS))
    database.execute(f"CREATE TABLE rows AS SELECT {names} FROM plain{joins} ORDER BY place")


def _value(column: str, value: Any) -> Any:
    """As DuckDB takes it: a map is given as its keys and its values."""
    if COLUMNS[column].startswith("MAP") and value is not None:
        return {"key": list(value), "value": list(value.values())}
    return value


def opened(folder: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory with the newest row of every file, as the table ``loras``.

    It can reach no file and no network from here on, whatever it is asked.

    Raises:
        WsdemoError: There is no library in the folder, or a part of it is damaged.
    """
    files = parts(folder)
    if not files:
        raise WsdemoError(
            "No library",
            f"{folder} holds no part-….parquet.",
            "Build one: python -m wsdemo library build FOLDER --out LIBRARY",
        )
    database = duckdb.connect(":memory:", config={"threads": 1})
    source = (
        f"read_parquet([{', '.join(map(_quoted, files))}], filename = true, union_by_name = true)"
    )
    try:
        present = {
            row[0] for row in database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        }
        columns = ", ".join(  # those that parts of older versions lack are empty
            _named(name) if name in present else f"NULL::{kind} AS {_named(name)}"
            for name, kind in COLUMNS.items()
        )
        database.execute(
            f"CREATE TABLE loras AS SELECT {columns} FROM {source}"
            " QUALIFY row_number() OVER (PARTITION BY file ORDER BY filename DESC) = 1"
            " ORDER BY file"
        )
        database.execute(  # a repository that was refused once, and has been read since
            "DELETE FROM loras AS old WHERE error <> '' AND bytes IS NULL AND \"commit\" IS NULL"
            " AND EXISTS (SELECT 1 FROM loras AS new WHERE starts_with(new.file, old.file || ':'))"
        )
    except duckdb.Error as error:
        raise WsdemoError(
            "Library damaged", str(error).splitlines()[0][:300], "Build it again."
        ) from error
    database.execute("SET enable_external_access = false; SET lock_configuration = true")
    return database


def _named(column: str) -> str:
    return f'"{column}"'


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
