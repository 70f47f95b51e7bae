"""LoRAs as rows of Parquet, flattened: MoSalama98/LoRA-WiSE (sizes of data sets).

``low/16/train-00000-of-00008.parquet`` has columns ``label`` (pictures), ``name`` (which pictures)
and ``unet.….to_k.lora.down.weight`` with r m numbers, ``….up.weight`` with n r; the rank r is the
folder's name. A file is fetched, its rows become safetensors files, and it is deleted again.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import numpy as np
import torch
from safetensors.torch import save

from wsdemo.errors import WsdemoError
from wsdemo.files import write_whole
from wsdemo.hub.repository import Candidate, Repository
from wsdemo.limits import MAX_RANK
from wsdemo.lol.imports.entry import safe_name

_WEIGHT = re.compile(r".+\.(?:lora\.)?(down|up)\.weight$")
LABEL, NAME = "label", "name"
SIZE = "data_set_size"
"""What the column is called that their ``label`` becomes."""
ROWS = 4
"""Rows that are held at once: 13 MB each and more."""


def shards_of(repository: Repository) -> list[Candidate]:
    """The Parquet files in folders whose name is a rank."""
    return [
        file
        for file in repository.files
        if file.path.endswith(".parquet") and rank_of(file.path) is not None
    ]


def rank_of(path: str) -> int | None:
    """The rank that a file's folder is named by, as ``low/16`` or ``medium/32_2``; None if none."""
    match = re.fullmatch(r"(\d{1,4})(_\d+)?", PurePosixPath(path).parent.name)
    rank = int(match[1]) if match else 0
    return rank if 1 <= rank <= MAX_RANK else None


def subset_of(path: str) -> str:
    """The subset that a file belongs to."""
    return str(PurePosixPath(path).parent)


def chosen_shards(repository: Repository, subset: str | None) -> list[Candidate]:
    """The files of one subset.

    Raises:
        WsdemoError: None is named and there are several, or it is not there.
    """
    shards = shards_of(repository)
    subsets = list(dict.fromkeys(subset_of(s.path) for s in shards))
    wanted = (subset or (subsets[0] if len(subsets) == 1 else "")).strip("/")
    chosen = [s for s in shards if subset_of(s.path) == wanted]
    if not chosen:
        sizes = {name: sum(s.size for s in shards if subset_of(s.path) == name) for name in subsets}
        listed = ", ".join(f"{name} ({size / 2**30:.1f} GB)" for name, size in sizes.items())
        raise WsdemoError(
            "Which subset?",
            f"{repository.repo} holds {listed[:400]}{f', and no {wanted[:40]}' if wanted else ''}.",
            f"Name one: datasets/{repository.repo}:{subsets[0] if subsets else 'SUBSET'}",
        )
    return sorted(chosen, key=lambda s: s.path)


def rows_to_files(shard: Path, path: str, out: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """Writes the rows of a Parquet file as LoRAs; yields (file, column → text, group).

    Args:
        shard: The file.
        path: Its place in the repository.
        out: The folder to write to.

    Raises:
        WsdemoError: It is none, or its columns are not those of LoRAs.
        OSError: The disk is full.
    """
    rank = rank_of(path)
    assert rank is not None
    stem = safe_name(f"{subset_of(path)}-{PurePosixPath(path).stem}".replace("/", "-"))
    with duckdb.connect(":memory:", config={"threads": 1}) as database:
        source = "read_parquet(?, file_row_number = true)"
        try:
            described = database.execute(f"DESCRIBE SELECT * FROM {source}", [str(shard)])
            columns = [row[0] for row in described.fetchall()]
            (count,) = database.execute(f"SELECT count(*) FROM {source}", [str(shard)]).fetchall()[
                0
            ]
        except duckdb.Error as error:
            raise WsdemoError(
                "Not Parquet", f"{path}: {str(error).splitlines()[0][:200]}", "Import again."
            ) from error
        weights = [c for c in columns if _WEIGHT.fullmatch(c)]
        if LABEL not in columns or not weights:
            raise WsdemoError(
                "Another layout",
                f"{path} has {len(columns)} columns, {len(weights)} of them weights, and"
                f" {'a' if LABEL in columns else 'no'} column {LABEL}.",
                "Expected label, name, and ….lora.down.weight with ….lora.up.weight.",
            )
        named = [c for c in (LABEL, NAME) if c in columns]
        listed = ", ".join(f'"{c}"' for c in [*named, *weights])
        query = f"SELECT {listed} FROM {source} WHERE file_row_number BETWEEN ? AND ?"
        for first in range(0, count, ROWS):
            rows = database.execute(query, [str(shard), first, first + ROWS - 1]).fetchall()
            for offset, row in enumerate(rows):
                cells = dict(zip([*named, *weights], row, strict=True))
                file = f"{stem}-{first + offset:04d}.safetensors"
                tensors = {c: _matrix(c, cells[c], rank) for c in weights if cells[c] is not None}
                write_whole(out / file, save(tensors))
                yield file, {SIZE: str(cells[LABEL])}, str(cells.get(NAME) or "")


def _matrix(column: str, numbers: Any, rank: int) -> torch.Tensor:
    """Of a column's numbers, flat or nested: down (rank, m), up (n, rank), float32."""
    flat = np.asarray(numbers, np.float32).reshape(-1)
    is_down = bool((match := _WEIGHT.fullmatch(column)) and match[1] == "down")
    if len(flat) % rank:
        raise WsdemoError(
            "Another layout",
            f"{column[:80]} has {len(flat)} numbers, no multiple of the rank {rank}.",
            "Expected the rank in the folder's name.",
        )
    return torch.from_numpy(flat.reshape((rank, -1) if is_down else (-1, rank)).copy())
