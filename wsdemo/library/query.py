"""Questions to a library: which LoRAs satisfy a condition, which are like one, where they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from wsdemo.errors import WsdemoError
from wsdemo.library.row import COLUMNS
from wsdemo.library.sketch import DIMENSION, sketch
from wsdemo.library.table import opened
from wsdemo.lora.reader import read_lora

Vectors = NDArray[np.float32]
SHOWN = tuple(name for name in COLUMNS if name != "sketch")


@dataclass(frozen=True)
class Sketches:
    """The LoRAs of a library that were read and change something.

    Attributes:
        files: Their names.
        ranks: (N,) the largest rank of each.
        norms: (N,) ‖ΔW‖_F, exactly.
        vectors: (N, DIMENSION) their sketches.
    """

    files: tuple[str, ...]
    ranks: NDArray[np.int64]
    norms: NDArray[np.float64]
    vectors: Vectors

    def pick(self, places: NDArray[np.int64]) -> "Sketches":
        """Some of them."""
        names = tuple(self.files[i] for i in places)
        return Sketches(names, self.ranks[places], self.norms[places], self.vectors[places])

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
    with opened(library) as database:
        rows = database.execute(
            "SELECT file, rank, norm, sketch FROM loras"
            " WHERE error = '' AND NOT no_op ORDER BY file"
        ).fetchall()
    return Sketches(
        tuple(row[0] for row in rows),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.float32).reshape(len(rows), DIMENSION),
    )


def find(library: Path, condition: str, most: int = 1000) -> list[dict[str, Any]]:
    """The rows that satisfy a condition in SQL, such as ``base = 'SDXL' and rank > 64``.

    The condition is the text between WHERE and the end of one SELECT, run on a copy in memory
    that reaches neither files nor the network.

    Raises:
        WsdemoError: As ``opened``; the condition is none.
    """
    with opened(library) as database:
        query = f"SELECT {', '.join(SHOWN)} FROM loras WHERE ({condition}\n) LIMIT {int(most)}"
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
    own = sketch(read_lora(file))
    length = float(np.linalg.norm(own))
    if length == 0:
        raise WsdemoError("Nothing to compare", "This LoRA changes nothing.", "Take another.")
    found = sketches(library)
    cosines = found.directions @ (own / length)
    order = np.argsort(-cosines)[:count]
    return [(found.files[i], float(min(1.0, cosines[i]))) for i in order]


def positions(library: Path) -> list[tuple[str, float, float]]:
    """(file, x, y): a map on which updates that point alike lie together (t-SNE of cosines)."""
    from sklearn.manifold import TSNE

    found = sketches(library)
    n = len(found.files)
    if n < 4:
        raise WsdemoError("Too few for a map", f"The library has {n}.", "Four are needed.")
    places = TSNE(
        metric="cosine", init="random", perplexity=min(30.0, (n - 1) / 3), random_state=0
    ).fit_transform(found.directions)
    return [(f, float(x), float(y)) for f, (x, y) in zip(found.files, places, strict=True)]
