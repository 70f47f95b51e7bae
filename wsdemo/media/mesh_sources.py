"""Where a mesh and its buffers come from: a file and what lies beside it, several files, a zip.

Nothing is read but the files that were given, and, for a glTF, the buffers that it names in its
own folder.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wsdemo.limits import MAX_MESH_BYTES, MAX_UNPACKED_BYTES
from wsdemo.media.formats.foreign import READABLE, kind_of
from wsdemo.media.formats.raw import SIMPLER, refuse

BUFFERS = (".bin", ".buf", ".buffer", ".glbin")
"""Endings of files that a glTF may keep its numbers in."""


class Folder(Mapping[str, bytes]):
    """The buffers beside a glTF, read when they are asked for; none outside its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def __getitem__(self, name: str) -> bytes:
        path = (self._folder / name).resolve()
        is_within = path.is_relative_to(self._folder) and path.suffix.lower() in BUFFERS
        if not is_within or not path.is_file():
            raise KeyError(name)
        return contents(path)

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self._folder.iterdir() if path.suffix.lower() in BUFFERS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        try:
            return bool(self[str(name)]) or True
        except KeyError:
            return False


@dataclass(frozen=True)
class Source:
    """A mesh file.

    Attributes:
        kind: One of READABLE.
        data: Its content.
        beside: Buffers that it may name.
        notes: How it was found.
    """

    kind: str
    data: bytes
    beside: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def contents(path: Path) -> bytes:
    """A file's content.

    Raises:
        WsdemoError: It is too large.
    """
    size = path.stat().st_size
    if size > MAX_MESH_BYTES:
        raise refuse(
            "Mesh too large",
            f"The file has {size / 2**20:,.0f} MB; {MAX_MESH_BYTES / 2**20:.0f} are allowed.",
            SIMPLER,
        )
    return path.read_bytes()


def find_mesh(paths: Sequence[Path]) -> Source:
    """The one mesh among files that were given together, and what lies beside it.

    Raises:
        WsdemoError: No mesh, several, another format, or too large.
    """
    if len(paths) == 1:
        data = contents(paths[0])
        kind, notes = kind_of(paths[0].name, data)
        if kind == "zip":
            return _unzipped(data, notes)
        return Source(kind, data, Folder(paths[0].parent) if kind == "gltf" else {}, notes)
    chosen = paths[_the_mesh([path.name for path in paths])]
    data = contents(chosen)
    kind, notes = kind_of(chosen.name, data)
    if kind == "zip":
        return _unzipped(data, notes)
    total = sum(path.stat().st_size for path in paths)
    if total > MAX_MESH_BYTES:
        raise refuse(
            "Mesh too large",
            f"The files have {total / 2**20:,.0f} MB; {MAX_MESH_BYTES / 2**20:.0f} are allowed.",
            SIMPLER,
        )
    beside = {path.name: path.read_bytes() for path in paths if path.suffix.lower() in BUFFERS}
    return Source(kind, data, beside, notes)


def _the_mesh(names: Sequence[str]) -> int:
    """Which of several names is the mesh."""
    endings = [name.rpartition(".")[2].lower() for name in names]
    meshes = [i for i, ending in enumerate(endings) if ending in (*READABLE, "zip")]
    if len(meshes) == 1:
        return meshes[0]
    if not meshes:
        foreign = next((i for i, e in enumerate(endings) if f".{e}" not in BUFFERS), 0)
        kind_of(names[foreign] if names else "", b"")
    listed = ", ".join(names[i] for i in meshes)[:120]
    raise refuse(
        "Several meshes", f"Found {len(meshes)}: {listed}; expected one.", "Give one of them."
    )


def _unzipped(data: bytes, notes: tuple[str, ...]) -> Source:
    """The one mesh in a zip, with the buffers beside it."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise refuse("Mesh unreadable", "The file is no intact zip archive.") from error
    entries = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not _is_of_macos(entry.filename)
    ]
    names = [entry.filename.replace("\\", "/") for entry in entries]
    if any(name.lower().endswith(".model") for name in names) and "[Content_Types].xml" in names:
        return Source("3mf", data, {}, (*notes, "The zip is a 3MF."))
    if not entries:
        raise refuse("Empty mesh", "The zip holds no file.")
    chosen = _the_mesh(names)
    folder = PurePosixPath(names[chosen]).parent
    needed = [chosen] + [i for i, name in enumerate(names) if name.lower().endswith(BUFFERS)]
    unpacked = sum(entries[i].file_size for i in needed)
    if unpacked > MAX_UNPACKED_BYTES:
        raise refuse(
            "Mesh too large",
            f"The mesh in the zip unpacks to {unpacked / 2**20:,.0f} MB;"
            f" {MAX_UNPACKED_BYTES / 2**20:.0f} are allowed.",
            SIMPLER,
        )
    files = {}
    for i in needed:
        try:
            files[names[i]] = archive.read(entries[i])
        except Exception as error:  # zlib, lzma and zipfile have errors of their own
            raise refuse(
                "Mesh unreadable",
                f"{names[i][:60]!r} in the zip is damaged or encrypted ({type(error).__name__}).",
            ) from error
    kind, more = kind_of(names[chosen], files[names[chosen]])
    if kind == "zip":
        raise refuse("Mesh unreadable", "The zip holds another zip.", "Unpack it first.")
    beside = {_relative(name, folder): content for name, content in files.items()}
    note = f"{PurePosixPath(names[chosen]).name[:60]} of the zip was read."
    return Source(kind, files[names[chosen]], beside, (*notes, note, *more))


def _is_of_macos(name: str) -> bool:
    """Whether an entry of a zip is what macOS keeps beside files, under their names and endings."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


def _relative(name: str, folder: PurePosixPath) -> str:
    path = PurePosixPath(name)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
