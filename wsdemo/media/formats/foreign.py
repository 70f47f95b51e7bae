"""Formats that are not read, by name, and what to do about each."""

from wsdemo.errors import WsdemoError

READABLE = ("glb", "gltf", "obj", "ply", "stl", "off", "3mf")
PACKAGES = ("zip",)
"""What may hold a mesh together with its buffers."""

_SCENE = "Import it in Blender and export it as GLB."
_CAD = "Export a mesh from the CAD program, as STL or 3MF; FreeCAD and Gmsh can as well."
_POINTS = "Make a surface of it first, in MeshLab or CloudCompare, and save it as PLY."
_OWN = "Open it in the program that made it, and export it as GLB or OBJ."
FOREIGN = {
    "fbx": ("FBX", _SCENE),
    "dae": ("COLLADA", _SCENE),
    "blend": ("a Blender project", "In Blender: File, Export, glTF 2.0 (.glb)."),
    "usd": ("USD", _SCENE), "usda": ("USD", _SCENE), "usdc": ("USD", _SCENE),
    "usdz": ("USD", _SCENE),
    "wrl": ("VRML", _SCENE), "vrml": ("VRML", _SCENE), "x3d": ("X3D", _SCENE),
    "x3dv": ("X3D", _SCENE), "abc": ("Alembic", _SCENE), "3ds": ("3DS", _SCENE),
    "lwo": ("LightWave", _SCENE), "x": ("DirectX", _SCENE), "ase": ("ASE", _SCENE),
    "md2": ("MD2", _SCENE), "md5mesh": ("MD5", _SCENE), "vox": ("MagicaVoxel", _OWN),
    "max": ("3ds Max", _OWN), "ma": ("Maya", _OWN), "mb": ("Maya", _OWN),
    "c4d": ("Cinema 4D", _OWN),
    "skp": ("SketchUp", _OWN), "zpr": ("ZBrush", _OWN), "ztl": ("ZBrush", _OWN),
    "vrm": ("VRM", "It is a GLB of another name: rename it to end in .glb."),
    "step": ("STEP", _CAD), "stp": ("STEP", _CAD), "iges": ("IGES", _CAD), "igs": ("IGES", _CAD),
    "brep": ("BREP", _CAD), "dxf": ("DXF", _CAD), "dwg": ("DWG", _CAD), "ifc": ("IFC", _CAD),
    "sldprt": ("SolidWorks", _CAD), "sldasm": ("SolidWorks", _CAD), "ipt": ("Inventor", _CAD),
    "iam": ("Inventor", _CAD), "f3d": ("Fusion", _CAD), "x_t": ("Parasolid", _CAD),
    "x_b": ("Parasolid", _CAD), "jt": ("JT", _CAD), "3dm": ("Rhino", _CAD),
    "fcstd": ("FreeCAD", _CAD),
    "scad": ("OpenSCAD", "In OpenSCAD: render it (F6), then export it as STL or 3MF."),
    "amf": ("AMF", "Open it in the slicer and export it as 3MF or STL."),
    "gcode": ("G-code", "It holds a printer's paths, no mesh: give the STL or 3MF it was made of."),
    "xyz": ("a point cloud", _POINTS), "pcd": ("a point cloud", _POINTS),
    "las": ("a point cloud", _POINTS), "laz": ("a point cloud", _POINTS),
    "e57": ("a point cloud", _POINTS), "pts": ("a point cloud", _POINTS),
    "splat": ("Gaussian splats", _POINTS), "ksplat": ("Gaussian splats", _POINTS),
    "spz": ("Gaussian splats", _POINTS),
    "vtk": ("VTK", "In ParaView: extract the surface, and save it as PLY or STL."),
    "vtp": ("VTK", "In ParaView: save the data as PLY or STL."),
    "vtu": ("VTK", "In ParaView: extract the surface, and save it as PLY or STL."),
    "msh": ("a simulation's mesh", "In Gmsh: export its surface as STL."),
    "mtl": ("a material", "It belongs to an OBJ: give that one."),
    "bin": ("a buffer", "It belongs to a glTF: give scene.gltf and it together, or in one zip."),
    "gz": ("compressed by gzip", "Unpack it first."),
    "rar": ("a RAR archive", "Unpack it first, or pack it as zip."),
    "7z": ("a 7z archive", "Unpack it first, or pack it as zip."),
    "tar": ("a tar archive", "Unpack it first, or pack it as zip."),
}  # fmt: skip
"""Ending → what such a file is, and what to do."""
_SIGNS = (
    (b"Kaydara FBX", "fbx"), (b"; FBX", "fbx"), (b"BLENDER", "blend"), (b"ISO-10303-21", "step"),
    (b"PXR-USDC", "usdc"), (b"#usda", "usda"), (b"#VRML", "wrl"), (b"#X3D", "x3dv"),
    (b"\x1f\x8b", "gz"), (b"Rar!", "rar"), (b"7z\xbc\xaf", "7z"), (b"Ogawa", "abc"),
)  # fmt: skip
_OURS = ((b"glTF", "glb"), (b"ply\n", "ply"), (b"ply\r", "ply"), (b"OFF\n", "off"),
         (b"OFF\r", "off"))  # fmt: skip


def names_a_mesh(name: str) -> bool:
    """Whether a file's name ends like a mesh of any format, read here or not."""
    words = name.lower().split(".")[1:]
    if words[-1:] == ["gz"]:
        return words[-2:-1] != ["gz"] and any(w in READABLE or w in FOREIGN for w in words[:-1])
    return words[-1:] != [] and (words[-1] in READABLE + PACKAGES or words[-1] in FOREIGN)


def kind_of(name: str, data: bytes) -> tuple[str, tuple[str, ...]]:
    """The format of a mesh file: by its first bytes where they are clear, else by its name.

    Returns:
        One of READABLE or PACKAGES, and a note if the two disagree.

    Raises:
        WsdemoError: Another format, which is named, or no mesh at all.
    """
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    _refuse_strangers(start)
    for sign, kind in _SIGNS:
        if start.startswith(sign):
            raise _foreign(kind)
    by_content = next((kind for sign, kind in _OURS if start.startswith(sign)), None)
    if start.startswith(b"PK\x03\x04") and ending not in ("3mf", "zip", "usdz", "fcstd"):
        by_content = "zip"
    if by_content is not None and by_content != ending:
        return by_content, (f"Named .{ending[:12]}, but it is {by_content.upper()}: read as that.",)
    if ending in READABLE or ending in PACKAGES:
        return ending, ()
    if ending in FOREIGN:
        raise _foreign(ending)
    raise WsdemoError(
        "Not a mesh",
        f"Found a name that ends in {ending[:12]!r}; expected {', '.join(READABLE + PACKAGES)}.",
        "Export the model as GLB, OBJ, PLY or STL.",
    )


def _foreign(kind: str) -> WsdemoError:
    what, advice = FOREIGN[kind]
    return WsdemoError(
        "Mesh format not read",
        f"Found {what}; meshes are read as GLB, glTF, OBJ, PLY, STL, OFF and 3MF.",
        advice,
    )


def _refuse_strangers(start: bytes) -> None:
    """What stands in for a file when a download went wrong."""
    if start.lower().startswith((b"<!doctype html", b"<html")):
        raise WsdemoError(
            "Not a mesh",
            "Found a web page under the name of a mesh: it does not begin like a GLB or any other.",
            "Download the model itself.",
        )
    if start.startswith(b"version https://git-lfs"):
        raise WsdemoError(
            "Not a mesh",
            "Found a pointer of Git LFS, which stands for the mesh.",
            "Fetch the file itself: git lfs pull.",
        )
    if start.startswith(b"<?xml") and b"COLLADA" in start:
        raise _foreign("dae")
