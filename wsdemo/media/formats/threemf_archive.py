"""The zip of a 3MF file: its model files as XML, within bounds, and what slicers add to them."""

import io
import posixpath
import zipfile
from collections.abc import Iterator

from lxml import etree

from wsdemo.limits import MAX_CONFIG_BYTES, MAX_UNPACKED_BYTES, MAX_XML_TAGS
from wsdemo.media.formats.raw import SIMPLER, refuse

RELATIONS = "_rels/.rels"
MODEL = "/3dmodel"
"""How the type of the relation ends that names the main model file."""


class Elements:
    """A model file's elements by their local names, whatever prefix they carry."""

    def __init__(self, root: etree._Element) -> None:
        self.root = root

    def all(self, name: str) -> Iterator[etree._Element]:
        """Every element of a name."""
        return self.within(self.root, name)

    def within(self, element: etree._Element, name: str) -> Iterator[etree._Element]:
        """Every element of a name below another."""
        return element.iter(f"{{*}}{name}")

    def count(self, name: str) -> int:
        """How many elements have a name."""
        return sum(1 for _ in self.all(name))


class Archive:
    """The zip.

    Attributes:
        root: Name of the main model file.
    """

    def __init__(self, data: bytes) -> None:
        """Opens the archive; only model files and small settings are ever unpacked.

        Raises:
            WsdemoError: No zip, encrypted, too large, or without a model.
        """
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise refuse("Mesh unreadable", "The 3MF file is no intact zip archive.") from error
        entries = {entry.filename.replace("\\", "/").lstrip("/").lower(): entry
                   for entry in self._zip.infolist()}  # fmt: skip
        self._entries = entries
        models = [name for name in entries if name.endswith(".model")]
        unpacked = sum(entries[name].file_size for name in models)
        if unpacked > MAX_UNPACKED_BYTES:
            raise refuse(
                "Mesh too large",
                f"The models of the archive unpack to {unpacked / 2**20:,.0f} MB;"
                f" {MAX_UNPACKED_BYTES / 2**20:.0f} are allowed.",
                SIMPLER,
            )
        if not models:
            names = ", ".join(sorted(entries))[:80] or "nothing"
            what = (
                "sliced G-code, no models" if any(n.endswith(".gcode") for n in entries) else names
            )
            raise refuse(
                "Empty mesh", f"The archive holds {what}; expected a file that ends in .model."
            )
        self._tags = 0
        self._parsed: dict[str, Elements] = {}
        self.root = self._main(models)

    def read(self, name: str, limit: int) -> bytes | None:
        """A file of the archive; None if it is not there.

        Raises:
            WsdemoError: It is damaged, encrypted or larger than the limit, in bytes.
        """
        entry = self._entries.get(name.lower())
        if entry is None:
            return None
        try:
            with self._zip.open(entry) as file:
                content = file.read(limit + 1)
        except Exception as error:  # zlib, lzma and zipfile have errors of their own
            raise refuse(
                "Mesh unreadable",
                f"{name[:60]!r} in the archive is damaged or encrypted ({type(error).__name__}).",
            ) from error
        if len(content) > limit:
            raise refuse(
                "Mesh too large", f"{name[:60]!r} unpacks to over {limit:,} bytes.", SIMPLER
            )
        return content

    def elements(self, name: str) -> Elements:
        """A model file, parsed once.

        Raises:
            WsdemoError: It is not there, no XML, or has too many elements.
        """
        if name in self._parsed:
            return self._parsed[name]
        content = self.read(name, MAX_UNPACKED_BYTES)
        if content is None:
            raise refuse("Mesh incomplete", f"It names {name[:80]!r}, which is not in the archive.")
        self._tags += content.count(b"<")
        if self._tags > MAX_XML_TAGS:
            raise refuse(
                "Mesh too large",
                f"Its XML has {self._tags:,} elements; {MAX_XML_TAGS:,} are allowed.",
                "Export it as GLB, PLY or STL, which are binary.",
            )
        if b"\0" in content and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            what = "is not UTF-8"
            if any(entry.endswith("keystore.xml") for entry in self._entries):
                what = "is encrypted (Secure Content)"
            raise refuse("Mesh unreadable", f"The XML of the 3MF file {what}.")
        self._parsed[name] = Elements(_parse(content, name))
        return self._parsed[name]

    def _main(self, models: list[str]) -> str:
        """The main model file: what the relations name, else the usual name, else the first."""
        content = self.read(RELATIONS, MAX_CONFIG_BYTES)
        if content is not None:
            for relation in Elements(_parse(content, RELATIONS)).all("Relationship"):
                if relation.get("Type", "").lower().endswith(MODEL):
                    name = posixpath.normpath("/" + relation.get("Target", "")).lstrip("/")
                    if name.lower() in models:
                        return name
        return next((name for name in models if name.endswith("3dmodel.model")), models[0])


def _parse(content: bytes, name: str) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise refuse(
            "Mesh unreadable", f"{name[:60]!r} is no intact XML: {str(error)[:100]}."
        ) from error


# ---- what slicers add ----------------------------------------------------------------


def part_kinds(archive: Archive) -> dict[tuple[str, str], str]:
    """(object, component) → its kind by Bambu Studio or OrcaSlicer, such as ``modifier_part``."""
    kinds: dict[tuple[str, str], str] = {}
    content = archive.read("Metadata/model_settings.config", MAX_UNPACKED_BYTES)
    if content is None:
        return kinds
    elements = Elements(_parse(content, "model_settings.config"))
    for thing in elements.all("object"):
        for part in elements.within(thing, "part"):
            kind = part.get("subtype", "normal_part")
            kinds[thing.get("id", ""), part.get("id", "")] = kind
    return kinds


def volume_kinds(archive: Archive) -> dict[str, list[tuple[int, int, str]]]:
    """Object → first and last triangle and kind of its volumes, by PrusaSlicer, but for the parts
    of the model."""
    spans: dict[str, list[tuple[int, int, str]]] = {}
    content = archive.read("Metadata/Slic3r_PE_model.config", MAX_UNPACKED_BYTES)
    if content is None:
        return spans
    elements = Elements(_parse(content, "Slic3r_PE_model.config"))
    for thing in elements.all("object"):
        for volume in elements.within(thing, "volume"):
            facts = {m.get("key"): m.get("value", "") for m in elements.within(volume, "metadata")}
            kind = facts.get("volume_type", "ModelPart")
            if kind != "ModelPart" or facts.get("modifier") == "1":
                first, last = volume.get("firstid", "0"), volume.get("lastid", "-1")
                if first.isdigit() and last.isdigit():
                    spans.setdefault(thing.get("id", ""), []).append((int(first), int(last), kind))
    return spans
