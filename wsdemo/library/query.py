"""Questions to a library: which LoRAs satisfy a condition, which are like one, where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from wsdemo.errors import WsdemoError
from wsdemo.library.row import COLUMNS, UNSHOWN, Row
from wsdemo.library.sketch import DIMENSION, sketch
from wsdemo.library.table import opened
from wsdemo.lora.reader import read_lora

Vectors = NDArray[np.float32]
FEWEST = 4
"""LoRAs of a map."""
SHOWN = tuple(name for name in COLUMNS if name not in UNSHOWN)


@dataclass(frozen=True)
class Sketches:
    """The LoRAs of a library that were read and change something.

    Attributes:
        files: Their names.
        ranks: (N,) the largest rank of each.
        norms: (N,) ‖ΔW‖_F, exactly.
        vectors: (N, DIMENSION) their sketches.
        largest: Of each, the largest singular value of every module.
    """

    files: tuple[str, ...]
    ranks: NDArray[np.int64]
    norms: NDArray[np.float64]
    vectors: Vectors
    largest: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Sketches":
        """Those of rows, in their order."""
        kept = [row for row in rows if not row["error"] and not row["no_op"]]
        vectors = np.array([row["sketch"] for row in kept], np.float32)
        return cls(
            tuple(row["file"] for row in kept),
            np.array([row["rank"] for row in kept], np.int64),
            np.array([row["norm"] for row in kept], np.float64),
            vectors.reshape(len(kept), DIMENSION),
            tuple(np.array(row["largest"] or [], np.float32) for row in kept),
        )

    def pick(self, places: NDArray[np.int64]) -> "Sketches":
        """The sketches at these places."""
        return Sketches(
            tuple(self.files[i] for i in places), self.ranks[places], self.norms[places],
            self.vectors[places], tuple(self.largest[i] for i in places),
        )  # fmt: skip

    @property
    def directions(self) -> Vectors:
        """The sketches at length one."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / np.maximum(lengths, 1e-30), np.float32)


def sketches(library: Path) -> Sketches:
    """All sketches of a library.

    Raises:
        WsdemoError: As ``opened``.
    """
    names = ("file", "rank", "norm", "largest", "sketch")
    with opened(library) as database:
        columns = database.execute(
            f"SELECT {', '.join(names)} FROM loras WHERE error = '' AND NOT no_op ORDER BY file"
        ).fetchnumpy()
    count = len(columns["file"])
    return Sketches(
        tuple(columns["file"]),
        np.asarray(columns["rank"], np.int64),
        np.asarray(columns["norm"], np.float64),
        np.stack(list(columns["sketch"])) if count else np.zeros((0, DIMENSION), np.float32),
        tuple(np.asarray(v, np.float32) for v in columns["largest"]),
    )


def find(library: Path, condition: str, most: int = 1000) -> list[dict[str, Any]]:
    """The rows that satisfy a condition in SQL, such as ``base = 'SDXL' and rank > 64``.

    The condition is the text between WHERE and the end of one SELECT, run on a copy in memory
    that reaches neither files nor the network.

    Raises:
        WsdemoError: As ``opened``; the condition is none.
    """
    with opened(library) as database:
        shown = ", ".join(f'"{name}"' for name in SHOWN)
        query = f"SELECT {shown} FROM loras WHERE ({condition}\n) LIMIT {int(most)}"
        try:
            statements = database.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise WsdemoError(
                    "Not a condition",
                    f"Found {condition[:100]!r}, which is more than one.",
                    "Give one condition, such as: rank > 64",
                )
            rows = database.execute(statements[0]).fetchall()
        except duckdb.Error as error:
            raise WsdemoError(
                "Condition not understood",
                str(error).splitlines()[0][:300],
                f"Columns: {', '.join(SHOWN)}.",
            ) from error
    return [dict(zip(SHOWN, row, strict=True)) for row in rows]


def like(library: Path, file: Path, count: int = 10) -> list[tuple[str, float]]:
    """(file, cosine of the updates) of the LoRAs most like one, by their sketches.

    Raises:
        WsdemoError: As ``opened`` and ``read_lora``; the file changes nothing.
    """
    vector = sketch(read_lora(file))
    length = float(np.linalg.norm(vector))
    if length == 0:
        raise WsdemoError("Nothing to compare", "This LoRA changes nothing.", "Take another.")
    stored = sketches(library)
    cosines = stored.directions @ (vector / length)
    order = np.argsort(-cosines)[:count]
    return [(stored.files[i], float(min(1.0, cosines[i]))) for i in order]


def positions(library: Path) -> list[tuple[str, float, float]]:
    """(file, x, y): a map on which updates that point alike lie together (t-SNE of cosines).

    Raises:
        WsdemoError: As ``opened``; there are fewer than FEWEST.
    """
    return places(sketches(library))


def places(drawn: Sketches) -> list[tuple[str, float, float]]:
    """(file, x, y): the map of sketches that are at hand, as ``positions``."""
    from sklearn.manifold import TSNE

    n = len(drawn.files)
    if n < FEWEST:
        raise WsdemoError("Too few for a map", f"The library has {n}.", "Four are needed.")
    plane = TSNE(
        metric="cosine", init="random", perplexity=min(30.0, (n - 1) / 3), random_state=0
    ).fit_transform(drawn.directions)
    return [(f, float(x), float(y)) for f, (x, y) in zip(drawn.files, plane, strict=True)]
