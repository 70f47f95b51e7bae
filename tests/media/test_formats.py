"""OBJ, PLY, OFF, STL and strangers: what the file says is what is read, or it is said."""

import io
import struct
import zipfile

import numpy as np
import pytest

from wsdemo.errors import WsdemoError
from wsdemo.media.formats.foreign import FOREIGN, names_a_mesh
from wsdemo.media.formats.obj import read_obj
from wsdemo.media.formats.off import read_off
from wsdemo.media.formats.ply import read_ply
from wsdemo.media.formats.polygons import triangulate
from wsdemo.media.formats.stl import read_stl
from wsdemo.media.mesh_files import open_mesh
from wsdemo.media.meshes import Mesh, statistics

V = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
TRIANGLES = np.array([t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))])


def facts(raw) -> dict[str, float]:
    return statistics(Mesh(raw.vertices, raw.faces))


# ---- polygons ------------------------------------------------------------------------


def prism(outline: list[tuple[float, float]], height: float):
    """Vertices and polygons of a prism, its two ends one polygon each."""
    n = len(outline)
    vertices = np.array([(x, y, z) for z in (0, height) for x, y in outline], dtype=float)
    sides = [[i, (i + 1) % n, n + (i + 1) % n, n + i] for i in range(n)]
    return vertices, [list(range(n))[::-1], list(range(n, 2 * n)), *sides]


def filled(vertices, polygons):
    counts = np.array([len(p) for p in polygons])
    return triangulate(vertices, np.concatenate(polygons), counts)


U = [(0, 0), (6, 0), (6, 6), (4, 6), (4, 2), (2, 2), (2, 6), (0, 6)]
ARROW = [(0, 0), (2, 1), (0, 2), (0.7, 1)]
COMB = [
    (0, 0),
    (9, 0),
    (9, 4),
    (8, 4),
    (8, 1),
    (6, 1),
    (6, 4),
    (3, 4),
    (3, 1),
    (1, 1),
    (1, 4),
    (0, 4),
]


def shoelace(outline) -> float:
    x, y = np.array(outline, dtype=float).T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)


@pytest.mark.parametrize("outline", [U, ARROW, COMB])
@pytest.mark.parametrize("start", [0, 3])
def test_concave_polygons_are_filled_and_not_their_notches(outline, start):
    outline = outline[start:] + outline[:start]
    found = facts(filled(*prism(outline, 2.0)))
    around = np.linalg.norm(np.diff(np.array([*outline, outline[0]]), axis=0), axis=1).sum()
    assert found["area"] == pytest.approx(2 * shoelace(outline) + 2 * around)
    assert found["volume"] == pytest.approx(2 * shoelace(outline))


def test_polygons_that_cross_themselves_are_said():
    bow = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]], dtype=float)
    raw = filled(bow, [[0, 1, 2, 3]])
    assert len(raw.faces) == 2
    assert "cross themselves" in raw.notes[0]


# ---- OBJ -----------------------------------------------------------------------------

BOX_OBJ = "".join("v {:g} {:g} {:g}\n".format(*tuple(p)) for p in V)
FACES_OBJ = "".join("f " + " ".join(str(i + 1) for i in q) + "\n" for q in QUADS)
OBJ = {
    "relative": BOX_OBJ + "".join("f " + " ".join(str(i - 8) for i in q) + "\n" for q in QUADS),
    "tabs and CRLF": (BOX_OBJ + FACES_OBJ).replace(" ", "\t").replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + BOX_OBJ + FACES_OBJ,
    "continued": BOX_OBJ + FACES_OBJ.replace("f 1 2", "f 1 \\\n2"),
    "normals alone": BOX_OBJ + "vn 0 0 1\n" + "".join(
        "f " + " ".join(f"{i + 1}//1" for i in q) + "\n" for q in QUADS),
    "comments and groups": "# a\no x\n" + BOX_OBJ + "g y\ns off\n"
    + FACES_OBJ.replace("\n", " # z\n"),
    "faces first": FACES_OBJ + BOX_OBJ,
    "old Mac lines": (BOX_OBJ + FACES_OBJ).replace("\n", "\r"),
    "capitals": (BOX_OBJ + FACES_OBJ).upper(),
    "continued at the end": BOX_OBJ + FACES_OBJ.rstrip() + " \\",
    "continued twice": BOX_OBJ.replace("v -0.5 ", "v \\\n-0.5 \\\r\n") + FACES_OBJ,
    "a comment that ends like a path": "# C:\\models\\\n" + BOX_OBJ + FACES_OBJ,
    "a material's path": "mtllib C:\\models\\\n" + BOX_OBJ + FACES_OBJ,
    "colours": BOX_OBJ.replace("\n", " 1 0.5 0\n") + FACES_OBJ,
}  # fmt: skip


@pytest.mark.parametrize("name", OBJ)
def test_every_way_to_write_an_obj_is_the_same_box(name):
    assert facts(read_obj(OBJ[name].encode()))["volume"] == pytest.approx(1)


def test_relative_indices_count_from_where_they_stand():
    text = BOX_OBJ + "".join("f " + " ".join(str(i - 8) for i in q) + "\n" for q in QUADS)
    moved = text.replace("v -0.5", "v 9.5").replace("v 0.5", "v 10.5")
    assert facts(read_obj((text + moved).encode()))["volume"] == pytest.approx(2)


def test_what_is_left_out_of_an_obj_is_said_and_bad_lines_are_shown():
    notes = read_obj((BOX_OBJ + FACES_OBJ + "l 1 2\np 1\ncurv 0 1 1 2\n").encode()).notes
    assert [word for word in ("Lines", "Points", "Free-form") if any(word in n for n in notes)] == [
        "Lines", "Points", "Free-form",
    ]  # fmt: skip
    with pytest.raises(WsdemoError, match=r"Line 9 .*'f a b c'"):
        read_obj((BOX_OBJ + "f a b c\n").encode())
    with pytest.raises(WsdemoError, match=r"vertex 8 .*has 8"):
        read_obj((BOX_OBJ + "f 1 2 9\n").encode())


def test_what_an_obj_holds_instead_of_faces_is_said(tmp_path):
    with pytest.raises(WsdemoError, match=r"point cloud\. Free-form curves and surfaces"):
        open_mesh(write(tmp_path, "a.obj", (BOX_OBJ + "cstype bspline\n").encode()))


# ---- PLY -----------------------------------------------------------------------------

MIXED = [*QUADS[:5], QUADS[5][:3], [QUADS[5][0], QUADS[5][2], QUADS[5][3]]]


def ply(
    faces, order="binary_little_endian", names=("x", "y", "z"), index="vertex_indices", extra=""
):
    sign = ">" if "big" in order else "<"
    head = f"ply\nformat {order} 1.0\ncomment x\nelement vertex 8\n" + "".join(
        f"property float {n}\n" for n in names
    )
    head += f"element face {len(faces)}\n{extra}property list uchar int {index}\nend_header\n"
    if order == "ascii":
        rows = ["{:g} {:g} {:g}".format(*tuple(p)) for p in V] + [
            " ".join(map(str, [len(f), *f])) for f in faces
        ]
        return (head + "\n".join(rows) + "\n").encode()
    kind = struct.pack(f"{sign}B", 7) if extra else b""
    body = V.astype(f"{sign}f4").tobytes()
    return (
        head.encode()
        + body
        + b"".join(kind + struct.pack(f"{sign}B{len(f)}i", len(f), *f) for f in faces)
    )


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize(
    "faces", [MIXED, QUADS, TRIANGLES.tolist()], ids=["mixed", "quads", "tris"]
)
def test_ply_of_any_order_and_polygons_is_the_box(order, faces):
    assert facts(read_ply(ply(faces, order)))["volume"] == pytest.approx(1)


def test_other_names_and_columns_of_a_ply_are_understood():
    assert facts(read_ply(ply(MIXED, names=("X", "Y", "Z"))))["volume"] == pytest.approx(1)
    assert facts(read_ply(ply(MIXED, index="vertex_index")))["volume"] == pytest.approx(1)
    assert facts(read_ply(ply(MIXED, index="corners")))["volume"] == pytest.approx(1)
    assert facts(read_ply(ply(MIXED, extra="property uchar flags\n")))["volume"] == pytest.approx(1)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("length", "index"), [("u2", "u2"), ("i4", "u1"), ("f4", "i4")])
def test_lists_of_any_type_and_elements_in_between(order, length, index):
    names = {"u1": "uint8", "u2": "ushort", "i4": "int", "f4": "float"}
    kind = {"<": "little", ">": "big"}[order]
    head = (
        f"ply\nformat binary_{kind}_endian 1.0\ncomment the end_header follows\n"
        "element camera 1\nproperty float f\nproperty list uchar short k\n"
        "element vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face 6\nproperty list {names[length]} {names[index]} vertex_index\nend_header\n"
    )
    body = (
        np.array([1.5], f"{order}f4").tobytes() + b"\2" + np.array([7, 8], f"{order}i2").tobytes()
    )
    body += V.astype(f"{order}f4").tobytes()
    for quad in QUADS:
        body += np.array([4], order + length).tobytes() + np.array(quad, order + index).tobytes()
    assert facts(read_ply(head.encode() + body))["volume"] == pytest.approx(1)


def test_triangle_strips_of_a_ply_are_read():
    strip = [0, 1, 2, 3, -1, 4, 6, 5, 7]
    head = "ply\nformat ascii 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
    head += (
        "property float z\nelement tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    )
    rows = ["{:g} {:g} {:g}".format(*tuple(p)) for p in V] + [
        " ".join(map(str, [len(strip), *strip]))
    ]
    raw = read_ply((head + "\n".join(rows)).encode())
    assert raw.faces.tolist() == [[0, 1, 2], [2, 1, 3], [4, 6, 5], [5, 6, 7]]


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_a_cut_off_ply_is_called_so(order):
    with pytest.raises(WsdemoError, match="7 rows of 'face' ends within"):
        read_ply(ply(MIXED, order)[:-9])


# ---- OFF -----------------------------------------------------------------------------

HEX_V, HEX_F = prism([(np.cos(t), np.sin(t)) for t in np.arange(6) * np.pi / 3], 1.0)


def off(head="OFF\n12 8 0\n", more="", faces_more=""):
    rows = ["{:g} {:g} {:g}{}".format(*p, more) for p in HEX_V]
    rows += [" ".join(map(str, [len(f), *f])) + faces_more for f in HEX_F]
    return (head + "\n".join(rows) + "\n").encode()


@pytest.mark.parametrize("content", [
    off(), off("OFF 12 8 0\n"), off("12 8 0\n"), off("# c\nOFF # d\n\n12 8 # e\n"),
    off("COFF\n12 8 0\n", " 255 0 0 255", " 0.1 0.2 0.3"), off("NOFF\n12 8 0\n", " 0 0 1"),
    off("off\n12 8 0\n"), off("OFF\n12 8\n18\n"), off("OFF\n12\n8\n0\n"),
    off("OFF12 8 0\n"), " ".join(off().decode().split()).encode(),
    off("4OFF\n12 8 0\n", " 1"), off().replace(b"\n", b"\r\n"),
])  # fmt: skip
def test_off_and_its_kin_of_hexagons(content):
    assert facts(read_off(content))["volume"] == pytest.approx(2.598, abs=0.001)


def test_off_is_refused_for_what_is_wrong_with_it():
    with pytest.raises(WsdemoError, match="promises 12 vertices and 9 faces"):
        read_off(off("OFF\n12 9 0\n"))
    for end in (-20, -150):
        with pytest.raises(WsdemoError, match="ends too early"):
            read_off(off()[:end])
    with pytest.raises(WsdemoError, match="binary"):
        read_off(b"OFF BINARY\n\0\0\0\0")


# ---- STL -----------------------------------------------------------------------------

CORNERS = V[TRIANGLES].astype("<f4")
RECORDS = b"".join(bytes(12) + t.tobytes() + b"\0\0" for t in CORNERS)


def stl(count=12, data=RECORDS, head=b"\0" * 80):
    return head + struct.pack("<I", count) + data


def text_stl(end="endsolid\n", corners=CORNERS):
    rows = "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {:g} {:g} {:g}\n".format(*p) for p in t)
        + "endloop\nendfacet\n" for t in corners
    )  # fmt: skip
    return ("solid a\n" + rows + end).encode()


@pytest.mark.parametrize("content", [
    stl(), stl(head=b"solid exported by x".ljust(80)), stl(0), stl(2**32 - 1),
    stl(data=RECORDS + bytes(37)), text_stl(), text_stl(""), text_stl().upper(),
    text_stl().replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + text_stl(),
    text_stl().decode().encode("utf-16"), b"# by x\n" + text_stl(), text_stl()[8:],
    text_stl().replace(b"endfacet\nfacet", b"endfacet\nendsolid\nsolid b\nfacet", 1),
    text_stl().replace(b"0.5", b"5.0E-1"), text_stl(corners=V[QUADS]),
])  # fmt: skip
def test_binary_and_text_stl_are_told_apart(content):
    assert facts(read_stl(content))["volume"] == pytest.approx(1)


def test_what_is_odd_about_an_stl_is_said_and_cut_off_ones_are_called_so():
    assert "37 bytes behind" in read_stl(stl(data=RECORDS + bytes(37))).notes[0]
    assert "more than three corners" in read_stl(text_stl(corners=V[QUADS])).notes[0]
    assert "says 0 triangles; all 12" in read_stl(stl(0)).notes[0]
    for content in (stl(data=RECORDS[:-60]), stl(data=RECORDS[:-100]), text_stl()[:-120]):
        with pytest.raises(WsdemoError, match="ends too early"):
            read_stl(content)


# ---- strangers and packages ----------------------------------------------------------


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("name", "content", "word"), [
    ("a.fbx", b"Kaydara FBX Binary  \0", "FBX"), ("a.dae", b"<?xml?><COLLADA/>", "COLLADA"),
    ("a.step", b"ISO-10303-21;", "STEP"), ("a.usdz", b"PK\x03\x04", "USD"),
    ("a.blend", b"BLENDER", "Blender"), ("a.wrl", b"#VRML V2.0 utf8", "VRML"),
    ("a.obj", b"Kaydara FBX Binary  \0", "FBX"), ("a.stl.gz", b"\x1f\x8b", "gzip"),
    ("a.glb", b"<!DOCTYPE html><html>", "web page"), ("a.mtl", b"newmtl x", "material"),
    ("a.stl", b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
])  # fmt: skip
def test_strangers_are_named_with_what_to_export(name, content, word, tmp_path):
    with pytest.raises(WsdemoError, match=word) as caught:
        open_mesh(write(tmp_path, name, content))
    assert caught.value.hint


def test_names_of_meshes_are_known():
    assert all(names_a_mesh(f"a.{kind}") for kind in FOREIGN if kind != "gz")
    assert names_a_mesh("b.stl.gz")
    assert not names_a_mesh("photo.jpg")
    assert not names_a_mesh("photo.jpg.gz")


def test_a_mesh_under_another_ending_is_read_and_said(tmp_path):
    mesh, report = open_mesh(write(tmp_path, "x.stl", ply(MIXED)))
    assert statistics(mesh)["volume"] == pytest.approx(1)
    assert "it is PLY" in report.notes[0]


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name if "." in name else name.replace("_", "."), content)
    return stream.getvalue()


def test_the_one_mesh_of_a_zip_is_read(tmp_path):
    rest = {"readme_txt": b"x", "x/._a.ply": b"\0", "__MACOSX/b.ply": b"\0"}
    mesh, report = open_mesh(write(tmp_path, "a.zip", zipped(a_ply=ply(MIXED), **rest)))
    assert statistics(mesh)["volume"] == pytest.approx(1)
    assert "a.ply of the zip" in report.notes[0]
    with pytest.raises(WsdemoError, match=r"Found 2: a\.ply, b\.stl"):
        open_mesh(write(tmp_path, "b.zip", zipped(a_ply=ply(MIXED), b_stl=stl())))
