"""Where a mesh is looked at from, which both renderers share."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wsdemo.media.meshes import Floats, Mesh

BACKGROUND = 245
"""Grey level behind the mesh."""
FIELD_OF_VIEW = np.deg2rad(30.0)
DISTANCE = 5.2
"""From the origin: a normalised mesh, of radius 0.9 √3 at most, mostly fills the picture."""
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at the origin, y up.

    Attributes:
        azimuth: Degrees around the vertical; 0 looks from +z.
        elevation: Degrees above the horizon.
        distance: From the origin.
    """

    azimuth: float = 35.0
    elevation: float = 20.0
    distance: float = DISTANCE

    @property
    def pose(self) -> Floats:
        """(4, 4) camera-to-world matrix in OpenGL's convention: the camera looks along -z."""
        a, e = np.deg2rad(self.azimuth), np.deg2rad(self.elevation)
        back = np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
        right = np.array([np.cos(a), 0.0, -np.sin(a)])
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, np.cross(back, right), back
        pose[:3, 3] = self.distance * back
        return pose


def framed(mesh: Mesh, azimuth: float = 35.0, elevation: float = 30.0) -> Camera:
    """The nearest camera in a direction that sees all of a mesh, with a margin of 5 %.

    For a picture by itself; what is to be compared is seen by one and the same camera.
    """
    view = mesh.vertices @ Camera(azimuth, elevation).pose[:3, :3]
    reach = np.abs(view[:, :2]).max(1) / (0.95 * np.tan(FIELD_OF_VIEW / 2))
    return Camera(azimuth, elevation, float((view[:, 2] + reach).max()))


def all_seeing(mesh: Mesh, start: Camera | None = None) -> Camera:
    """A camera, by default the usual one, moved back if the mesh would touch the picture's edge.

    So meshes of one size are mostly seen from one place, and none is cropped.
    """
    start = start or Camera()
    needed = framed(mesh, start.azimuth, start.elevation).distance
    return replace(start, distance=max(start.distance, needed))
