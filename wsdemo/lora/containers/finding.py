"""Which files a path means: a file itself, a folder, the index of shards, one of several shards."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from wsdemo.errors import WsdemoError
from wsdemo.limits import MAX_HEADER_BYTES, MAX_LORA_BYTES, MAX_SHARDS, MAX_TENSORS
from wsdemo.lora.containers import gguf, npz, safetensors
from wsdemo.lora.containers.container import Container, Tensors
from wsdemo.safetensors_header import Header, read_header

_USUAL = (
    "adapter_model.safetensors", "adapter_model.safetensors.index.json",
    "pytorch_lora_weights.safetensors", "adapters.safetensors", "adapters.npz",
)  # fmt: skip
"""What PEFT, diffusers and MLX call an adapter in its folder."""
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """What lies at a path, open as long as the context.

    Args:
        path: A .safetensors, .npz or .gguf file, a folder with one adapter, or the
            ``.index.json`` of a sharded one. Of a shard the others are taken too.

    Raises:
        WsdemoError: It is none of these, damaged, or beyond limits.
    """
    path = adapter_file(path)
    _check_size(path)
    shard = _SHARD.fullmatch(path.name)
    if path.name.endswith(".index.json"):
        with _shards(path.parent, _indexed(path), path.name) as container:
            yield container
    elif shard and int(shard[3]) > 1:
        count = int(shard[3])
        names = [f"{shard[1]}-{i + 1:05}-of-{shard[3]}.safetensors" for i in range(count)]
        with _shards(path.parent, names if count <= MAX_SHARDS else [path.name], "") as container:
            yield container
    else:
        with opened_alone(path) as container:
            yield container


@contextmanager
def opened_alone(path: Path) -> Iterator[Container]:
    """One file, without the shards beside it; by its content and not its name."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == gguf.MAGIC:
        with gguf.opened(path) as container:
            yield container
    elif start == b"PK\x03\x04" and npz.is_npz(path):
        with npz.opened(path) as container:
            yield container
    else:
        header = read_header(path)
        with safetensors.opened(path, header) as tensors:
            yield Container(header, {path: tensors})


def chosen(path: Path, adapter: str) -> tuple[Path, str]:
    """The file that holds an adapter, and the name that is still to be found in it.

    PEFT saves each adapter but ``default`` into a folder of its own name.

    Args:
        path: A file or a folder.
        adapter: The name of one of several; empty for any.

    Raises:
        WsdemoError: There is none, or there are several.
    """
    if not adapter or not path.is_dir():
        return adapter_file(path), adapter
    folder = path / adapter
    if Path(adapter).name == adapter and folder.is_dir():
        return adapter_file(folder), ""
    files = [p for p in path.iterdir() if p.is_file() and adapter in (p.name, p.stem)]
    files = [p for p in files if p.suffix in (".safetensors", ".npz", ".gguf")]
    if len(files) == 1:
        return files[0], ""
    below = adapters_below(path)
    if adapter == "default" or not below:
        return adapter_file(path), "" if adapter == "default" else adapter
    raise no_such_adapter(adapter, below)


def no_such_adapter(adapter: str, names: Sequence[str]) -> WsdemoError:
    """Says which adapters there are instead."""
    shown = ", ".join(name[:40] for name in names[:8]) or "one without a name"
    return WsdemoError(
        "No such adapter", f"Found {shown}; not {adapter[:40]!r}.", "Choose with --adapter NAME."
    )


def adapters_below(path: Path) -> list[str]:
    """The names of adapters that a folder holds in folders of their own."""
    if not path.is_dir():
        return []
    folders = (p for p in path.iterdir() if p.is_dir())
    return sorted(p.name for p in folders if any((p / name).is_file() for name in _USUAL))


def adapter_file(path: Path) -> Path:
    """The file that a path means: of a folder the adapter in it.

    Raises:
        WsdemoError: The folder holds none, or several.
    """
    if not path.is_dir():
        return path
    for name in _USUAL:
        if (path / name).is_file():
            return path / name
    files = sorted(
        p for p in path.iterdir() if p.suffix in (".safetensors", ".npz", ".gguf") and p.is_file()
    )
    firsts = [p for p in files if not (m := _SHARD.fullmatch(p.name)) or m[2] == "00001"]
    if len(firsts) == 1:
        return firsts[0]
    if firsts:
        shown = ", ".join(p.name[:60] for p in firsts[:6])
        raise WsdemoError(
            "Several adapters",
            f"The folder holds {len(firsts)} files: {shown}{' …' if len(firsts) > 6 else ''}.",
            "Name one of them.",
        )
    below = adapters_below(path)
    if len(below) == 1:
        return adapter_file(path / below[0])
    if below:
        shown = ", ".join(name[:60] for name in below[:8])
        raise WsdemoError(
            "Several adapters",
            f"The folder holds {len(below)}: {shown}{' …' if len(below) > 8 else ''}.",
            "Choose one with --adapter NAME, or give its folder.",
        )
    pickles = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise WsdemoError(
            "No adapter in this folder",
            f"It holds {pickles[0][:60]}, a pickle, which can run code when opened.",
            "Convert it first: wsdemo convert FILE --out NEW.safetensors.",
        )
    raise WsdemoError(
        "No adapter in this folder",
        "It holds no .safetensors, .npz or .gguf file.",
        "Give the folder that adapter_model.safetensors lies in.",
    )


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > MAX_LORA_BYTES:
        raise WsdemoError(
            "File too large",
            f"It has {size / 2**30:.1f} GB; {MAX_LORA_BYTES / 2**30:.0f} GB are allowed.",
            "Give the adapter alone, without its base model.",
        )


def _indexed(path: Path) -> list[str]:
    """The shards that an index names, which lie beside it."""
    hint = "Save the adapter again, or download it again."
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise WsdemoError("Not a readable index", "It is too long.", hint)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = sorted({str(name) for name in index["weight_map"].values()})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise WsdemoError("Not a readable index", "It has no weight_map.", hint) from error
    if not names or any(Path(name).name != name or name in (".", "..") for name in names):
        raise WsdemoError(
            "Not a readable index", "It names no files, or files in other folders.", hint
        )
    return names


@contextmanager
def _shards(folder: Path, names: list[str], index: str) -> Iterator[Container]:
    """Several files as one; what is missing is said."""
    if len(names) > MAX_SHARDS:
        raise WsdemoError(
            "Too many shards", f"{len(names):,}, of {MAX_SHARDS} allowed.", "Save it in one file."
        )
    present = [folder / name for name in names if (folder / name).is_file()]
    missing = [name for name in names if not (folder / name).is_file()]
    if not present:
        raise WsdemoError(
            "Shards are missing",
            f"None of the {len(names)} files that {index[:60]} names lies beside it.",
            "Put them into its folder.",
        )
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    places: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    parts: dict[Path, Tensors] = {}
    with ExitStack() as stack:
        for path in present:
            _check_size(path)
            header = read_header(path)
            twice = next((key for key in header.tensors if key in tensors), None)
            if twice is not None:
                raise WsdemoError(
                    "Shards overlap", f"Two of them hold {twice[:80]!r}.", "Save it again."
                )
            tensors |= header.tensors
            places |= dict.fromkeys(header.tensors, path)
            metadata = {**header.metadata, **metadata}
            parts[path] = stack.enter_context(safetensors.opened(path, header))
            if len(tensors) > MAX_TENSORS:
                raise WsdemoError(
                    "Too many tensors", f"More than {MAX_TENSORS:,} in all.", "Save it again."
                )
        yield Container(
            Header(tensors, metadata),
            parts,
            places,
            notes=_notes(len(names), len(present), missing, bool(index)),
            is_whole=not missing,
        )


def _notes(count: int, read: int, missing: list[str], is_index: bool) -> tuple[str, ...]:
    if missing:
        shown = ", ".join(name[:60] for name in missing[:3])
        return (f"It is one of {count} parts, of which {len(missing)} are missing ({shown}).",)
    return () if is_index else (f"It is one of {count} parts; all {read} were read together.",)
