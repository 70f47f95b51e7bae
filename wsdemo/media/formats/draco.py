"""Draco: a mesh of a glTF as KHR_draco_mesh_compression packs it, unpacked within bounds."""

import DracoPy
import numpy as np
from numpy.typing import NDArray

from wsdemo.media.formats.raw import refuse
from wsdemo.media.meshes import Ints

MAGIC = b"DRACO"
WITH_METADATA = 0x8000
EDGEBREAKER = 1
"""The method of connectivity that has one byte, how it goes around, before its counts."""


class DracoMesh:
    """A packed mesh.

    Attributes:
        faces: (F, 3).
    """

    def __init__(self, data: bytes, most: int) -> None:
        """Unpacks.

        Args:
            data: The packed mesh.
            most: Faces that its glTF announces: no more are unpacked.

        Raises:
            WsdemoError: It is damaged, or holds more.
        """
        faces = announced_faces(data)
        if faces > most:
            raise _damaged(f"it holds {faces:,} faces where its glTF says {most:,}")
        try:
            self._mesh = DracoPy.decode(data)
            self.faces: Ints = np.asarray(self._mesh.faces, dtype=np.int64).reshape(-1, 3)
        except Exception as error:  # the library raises its own, without a common base
            raise _damaged(str(error)[:60]) from error

    def numbers(self, number: int) -> NDArray[np.float64]:
        """(V, width) values of an attribute by its number in the packed mesh."""
        attribute = self._mesh.get_attribute_by_unique_id(number)
        if attribute is None:
            raise _damaged(f"attribute {number} is not there")
        values = np.asarray(attribute["data"], dtype=np.float64)
        return values.reshape(len(values), -1)


def announced_faces(data: bytes) -> int:
    """Faces that the head of a packed mesh promises.

    Raises:
        WsdemoError: It is no Draco mesh, or carries metadata before its counts.
    """
    if data[:5] != MAGIC or len(data) < 24 or data[7] != 1:
        raise _damaged("it does not begin like a mesh of Draco")
    if int.from_bytes(data[9:11], "little") & WITH_METADATA:
        raise _damaged("metadata within Draco are not read here")
    place = 11 + (data[8] == EDGEBREAKER)
    first, place = _varint(data, place)
    second, _ = _varint(data, place)
    return second if data[8] == EDGEBREAKER else first


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the least first, and the place after it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            break
    return value, place


def _damaged(why: str) -> Exception:
    return refuse(
        "Mesh unreadable",
        f"Its geometry, packed by Draco, cannot be unpacked: {why}.",
        "Export it without compression, or as OBJ, PLY or STL.",
    )
