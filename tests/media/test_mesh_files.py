"""Mesh files: every format goes around; every bad file gets a clear message, quickly."""

import builtins
import io
import json
import struct
import zipfile

import numpy as np
import pytest
import trimesh

from tests.conftest import little_work
from tests.media.shapes import ball, box, torus
from wsdemo.errors import WsdemoError
from wsdemo.limits import KEPT_MESH_FACES, MAX_MESH_FACES
from wsdemo.media import mesh_files, mesh_sources
from wsdemo.media.formats import gltf
from wsdemo.media.mesh_files import (
    READABLE,
    WRITABLE,
    check_mesh,
    mesh_bytes,
    open_mesh,
    precision_note,
)
from wsdemo.media.meshes import Mesh, statistics


def written(tmp_path, content: bytes | str, name: str):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def exported(mesh: Mesh, kind: str) -> bytes:
    content = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(file_type=kind)
    return content.encode() if isinstance(content, str) else bytes(content)


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_written_mesh_comes_back_and_equal_meshes_give_equal_bytes(kind, tmp_path):
    mesh = torus()
    content = mesh_bytes(mesh, kind)
    assert content == mesh_bytes(mesh, kind)
    again, report = open_mesh(written(tmp_path, content, f"t.{kind}"))
    assert (report.kind, report.faces, report.is_watertight) == (kind, len(mesh.faces), True)
    found, wanted = statistics(again), statistics(mesh)
    for key in ("area", "volume", "width", "height", "depth"):
        assert found[key] == pytest.approx(wanted[key], rel=1e-4)


@pytest.mark.parametrize("kind", sorted(set(READABLE) - {"gltf", "3mf"}))
def test_files_of_other_programs_are_read(kind, tmp_path):
    mesh, report = open_mesh(written(tmp_path, exported(box(), kind), f"b.{kind.upper()}"))
    assert report.is_watertight
    assert statistics(mesh)["volume"] == pytest.approx(0.24, rel=1e-4)


def test_a_scene_is_flattened_with_its_transforms(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)))
    moved = trimesh.transformations.translation_matrix([3, 0, 0])
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=moved)
    mesh, report = open_mesh(written(tmp_path, scene.export(file_type="glb"), "s.glb"))
    assert report.parts == 2
    assert statistics(mesh)["width"] == pytest.approx(4)


def test_3mf_is_read(tmp_path):
    content = trimesh.Scene(trimesh.creation.box((1, 2, 3))).export(file_type="3mf")
    mesh, _ = open_mesh(written(tmp_path, content, "b.3mf"))
    assert statistics(mesh)["volume"] == pytest.approx(6, rel=1e-4)


def glb(tree: dict, body: bytes = b"") -> bytes:
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if body:
        chunks += struct.pack("<I4s", len(body), b"BIN\0") + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", b"0" * (401 * 2**20))
    return stream.getvalue()


TRIANGLES = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
BAD = {
    "empty file.obj": ("", "Empty|No faces|unreadable"),
    "text.stl": ("hello, this is no mesh at all", "No faces|unreadable|Empty"),
    "garbage.ply": (bytes(range(256)) * 40, "unreadable"),
    "cut off.glb": (mesh_bytes(ball(), "glb")[:500], "cut off"),
    "not glTF.glb": ("<html>404 not found</html>", "does not begin like a GLB"),
    "length lies.glb": (b"glTF" + struct.pack("<II", 2, 2**31) + b"\xff" * 40, "cut off"),
    "empty scene.glb": (glb({"asset": {"version": "2.0"}, "scenes": [{}]}), "no geometry"),
    "nested.gltf": ('{"a":' * 3000 + "1" + "}" * 3000, "unreadable|malformed"),
    "external.gltf": (
        json.dumps({"buffers": [{"uri": "../../etc/passwd"}], "bufferViews": [{}]}),
        "another file",
    ),
    "external.glb": (
        glb({"buffers": [{"uri": "http://example.org/x.bin"}], "bufferViews": [{}]}),
        "another file",
    ),
    "points.ply": (
        "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\n"
        "property float z\nend_header\n0 0 0\n1 1 1\n",
        "point cloud",
    ),
    "points only.obj": (TRIANGLES, "point cloud|No faces|unreadable"),
    "two triangles.obj": (TRIANGLES + "f 1 2 3\nf 1 2 4\n", "at least 4"),
    "no area.obj": (TRIANGLES + "f 1 1 2\nf 2 2 3\nf 3 3 3\nf 1 2 2\nf 4 4 1\n", "at least 4"),
    "nan.obj": (TRIANGLES.replace("1 0 0", "nan 0 0") + "f 1 2 3\nf 1 2 4\nf 2 3 4\nf 1 3 4\n",
                "NaN or infinite"),
    "infinite.obj": (TRIANGLES.replace("1 0 0", "1e400 0 0")
                     + "f 1 2 3\nf 1 2 4\nf 2 3 4\nf 1 3 4\n", "NaN or infinite"),
    "huge.obj": (TRIANGLES.replace("1 0 0", "1e200 0 0")
                 + "f 1 2 3\nf 1 2 4\nf 2 3 4\nf 1 3 4\n", "too large"),
    "missing vertices.off": ("OFF\n3 4 0\n0 0 0\n1 0 0\n0 1 0\n" + "3 0 1 99\n" * 4,
                             "not there|unreadable"),
    "no zip.3mf": ("PK no zip", "no intact zip"),
    "bomb.3mf": (bomb(), "unpack to 401 MB"),
    "pickle.pkl": (b"\x80\x04.", "expected glb"),
    "no suffix": (b"", "expected glb"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_a_clear_message_within_seconds(name, tmp_path):
    content, message = BAD[name]
    with pytest.raises(WsdemoError) as caught, little_work():
        open_mesh(written(tmp_path, content, name))
    assert caught.value.hint
    import re

    assert re.search(message, f"{caught.value.title} {caught.value.message}"), caught.value


def test_an_obj_does_not_reach_for_its_material_file(tmp_path, monkeypatch):
    secret = tmp_path / "in" / "secret.mtl"
    secret.parent.mkdir()
    secret.write_text("newmtl a\nmap_Kd ../../../etc/passwd\n")
    folder = tmp_path / "in"
    body = "mtllib secret.mtl\nusemtl a\n" + exported(box(), "obj").decode()
    path, opened, plain_open = written(folder, body, "b.obj"), [], builtins.open

    def watched(file, *args, **kwargs):
        opened.append(str(file))
        return plain_open(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr(io, "open", watched)
    trimesh.load(str(path))  # left to itself, the library does look: the watch works
    assert any("secret.mtl" in name for name in opened)
    opened.clear()
    mesh, _ = open_mesh(path)
    assert len(mesh.faces) == 12
    assert not any("secret.mtl" in name for name in opened)


def test_a_huge_texture_in_a_glb_is_not_decoded(tmp_path):
    tree = trimesh.load(io.BytesIO(mesh_bytes(box(), "glb")), file_type="glb")
    assert tree.geometry
    content = mesh_bytes(box(), "glb")
    (length,) = struct.unpack("<I", content[12:16])
    description = json.loads(content[20 : 20 + length])
    description["images"] = [{"uri": "data:image/png;base64," + "A" * 2_000_000}]
    description["textures"] = [{"source": 0}]
    description["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    body = content[20 + length + 8 :]
    mesh, _ = open_mesh(written(tmp_path, glb(description, body), "t.glb"))
    assert len(mesh.faces) == 12


def test_large_meshes_are_reduced_and_that_is_said():
    big = trimesh.creation.icosphere(8)  # 1.3 million faces
    with little_work(15):
        mesh, report = check_mesh(np.asarray(big.vertices), np.asarray(big.faces), "ply")
    assert len(mesh.faces) <= KEPT_MESH_FACES
    assert "Reduced from 1,310,720" in report.notes[0]
    assert statistics(mesh)["volume"] == pytest.approx(4 / 3 * np.pi, rel=0.01)


def test_more_faces_than_are_read_are_refused():
    faces = np.zeros((MAX_MESH_FACES + 1, 3), dtype=np.int64)
    with pytest.raises(WsdemoError, match="are allowed"):
        check_mesh(np.zeros((1, 3)), faces, "ply")


def test_files_beyond_the_limit_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_sources, "MAX_MESH_BYTES", 10)
    with pytest.raises(WsdemoError, match="are allowed"):
        open_mesh(written(tmp_path, exported(box(), "stl"), "b.stl"))


def test_self_intersections_and_inversion_are_taken_as_they_come(tmp_path):
    a, b = ball(), ball()
    both = Mesh(
        np.concatenate([a.vertices, b.vertices + np.array([0.5, 0, 0])]),
        np.concatenate([a.faces, b.faces[:, ::-1] + len(a.vertices)]),
    )
    mesh, report = open_mesh(written(tmp_path, exported(both, "ply"), "x.ply"))
    assert report.parts == 2
    assert len(mesh.faces) == len(both.faces)


# ---- small files of large meshes -----------------------------------------------------


def model(objects: str, items: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr(
            "3D/3dmodel.model",
            '<model unit="millimeter" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/'
            f'2015/02"><resources>{objects}</resources><build>{items}</build></model>',
        )
    return stream.getvalue()


CORNERS = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in
                  [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])  # fmt: skip
SIDES = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in
                [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)])  # fmt: skip
SOLID = (
    f'<object id="1" type="model"><mesh><vertices>{CORNERS}</vertices>'
    f"<triangles>{SIDES}</triangles></mesh></object>"
)


def nested(depth: int, width: int) -> str:
    """Objects 2, 3 … that each hold the one before ``width`` times."""
    return SOLID + "".join(
        f'<object id="{i}"><components>'
        + f'<component objectid="{i - 1}"/>' * width
        + "</components></object>"
        for i in range(2, 2 + depth)
    )


def test_components_of_a_3mf_are_counted_as_often_as_they_are_placed(tmp_path):
    few = model(nested(2, 3), '<item objectid="3"/>')
    _, report = open_mesh(written(tmp_path, few, "few.3mf"))
    assert report.faces == 36
    many = model(nested(7, 10), '<item objectid="8"/>')
    with pytest.raises(WsdemoError, match="places 11,111,111 parts"):
        open_mesh(written(tmp_path, many, "many.3mf"))
    ring = '<object id="1"><components><component objectid="1"/></components></object>'
    with pytest.raises(WsdemoError, match="contains itself"):
        open_mesh(written(tmp_path, model(ring, '<item objectid="1"/>'), "ring.3mf"))


def test_a_3mf_of_too_many_elements_is_refused_before_it_is_parsed(tmp_path):
    crowd = model("<a/>" * 1_500_001, "")
    with pytest.raises(WsdemoError, match="elements; 1,500,000 are allowed"):
        open_mesh(written(tmp_path, crowd, "crowd.3mf"))


def description(content: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<I", content[12:16])
    return json.loads(content[20 : 20 + length]), content[20 + length + 8 :]


def test_instances_of_a_scene_are_counted_before_they_are_copied(tmp_path, monkeypatch):
    tree, body = description(mesh_bytes(ball(), "glb"))
    tree["nodes"] = [{"mesh": 0} for _ in range(5000)]
    tree["scenes"] = [{"nodes": list(range(5000))}]
    monkeypatch.setattr(gltf, "_read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(WsdemoError, match="6,400,000 faces"):
        open_mesh(written(tmp_path, glb(tree, body), "many.glb"))


def test_a_scene_that_contains_itself_is_refused(tmp_path):
    tree, body = description(mesh_bytes(ball(), "glb"))
    tree["nodes"] = [{"mesh": 0, "children": [1]}, {"mesh": 0, "children": [0]}]
    tree["scenes"] = [{"nodes": [0]}]
    with pytest.raises(WsdemoError, match="contains itself"):
        open_mesh(written(tmp_path, glb(tree, body), "ring.glb"))


@pytest.mark.parametrize(
    ("extension", "words"),
    [
        ("EXT_meshopt_compression", "compressed by meshopt"),
        ("ACME_voxels", "stored in a special way"),
    ],
)
def test_required_extensions_that_are_not_read_are_named(extension, words, tmp_path):
    tree, body = description(mesh_bytes(ball(), "glb"))
    tree["extensionsRequired"] = ["KHR_materials_unlit", extension]
    with pytest.raises(WsdemoError, match=words) as caught:
        open_mesh(written(tmp_path, glb(tree, body), "x.glb"))
    assert extension in caught.value.message
    assert "KHR_materials_unlit" not in caught.value.message


def test_normalised_integers_are_fractions(tmp_path):
    mesh = ball(1.0)
    stored = np.zeros((len(mesh.vertices), 4), dtype="<i2")
    stored[:, :3] = np.round(mesh.vertices * 32767)
    index = mesh.faces.astype("<u4").tobytes()
    views = [
        {"buffer": 0, "byteLength": len(index)},
        {"buffer": 0, "byteOffset": len(index), "byteLength": stored.nbytes, "byteStride": 8},
    ]
    accessors = [{"bufferView": 0, "componentType": 5125, "count": mesh.faces.size,
                  "type": "SCALAR"},
                 {"bufferView": 1, "componentType": 5122, "normalized": True,
                  "count": len(stored), "type": "VEC3"}]  # fmt: skip
    tree = {
        "asset": {"version": "2.0"}, "extensionsRequired": ["KHR_mesh_quantization"],
        "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [10, 0, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1}, "indices": 0}]}],
        "buffers": [{"byteLength": len(index) + stored.nbytes}],
        "bufferViews": views, "accessors": accessors,
    }  # fmt: skip
    read, _ = open_mesh(written(tmp_path, glb(tree, index + stored.tobytes()), "q.glb"))
    assert statistics(read)["width"] == pytest.approx(2, abs=1e-3)
    assert read.vertices[:, 0].mean() == pytest.approx(10, abs=1e-3)


# ---- faces that are none -------------------------------------------------------------


def test_a_face_without_area_leaves_no_vertex_behind():
    mesh = ball()
    stray = [[100, 0, 0], [100, 0, 0], [50, 50, 0], [60, 60, 0], [70, 70, 0]]
    n = len(mesh.vertices)
    faces = np.concatenate([mesh.faces, [[n, n + 1, n], [n + 2, n + 3, n + 4]]])
    read, report = check_mesh(np.concatenate([mesh.vertices, stray]), faces, "obj")
    assert len(read.vertices) == n
    assert len(read.faces) == len(mesh.faces)
    assert "left out: 2" in report.notes[0]


def test_faces_along_a_line_are_none_but_close_seams():
    line = np.array([[i, 2 * i, 3 * i] for i in range(8)], dtype=float)
    with pytest.raises(WsdemoError, match="0 proper faces"):
        check_mesh(line, np.array([[i, i + 1, i + 2] for i in range(6)]), "obj")
    # A box whose one edge has a vertex in the middle on one side, closed by a flat triangle.
    mesh = box()
    a, b, c = mesh.faces[0]
    middle = (mesh.vertices[a] + mesh.vertices[b]) / 2
    m = len(mesh.vertices)
    faces = np.concatenate([mesh.faces[1:], [[a, m, c], [m, b, c], [a, b, m]]])
    read, report = check_mesh(np.concatenate([mesh.vertices, [middle]]), faces, "obj")
    assert report.is_watertight
    assert len(read.faces) == 13


def test_what_is_said_of_a_mesh_is_said_of_it_before_it_is_reduced(monkeypatch):
    monkeypatch.setattr(mesh_files, "KEPT_MESH_FACES", 500)
    monkeypatch.setattr(
        mesh_files, "reduce_mesh", lambda mesh: Mesh(mesh.vertices, mesh.faces[:400])
    )
    mesh = ball()
    read, report = check_mesh(mesh.vertices, mesh.faces, "ply")
    assert len(read.faces) == 400
    assert report.is_watertight
    assert report.parts == 1


def test_a_mesh_that_reducing_leaves_nothing_of_is_refused(monkeypatch):
    monkeypatch.setattr(mesh_files, "KEPT_MESH_FACES", 500)
    mesh, n = ball(), len(ball().vertices)
    far = np.array([[1e9, 0, 0], [1e9, 1, 0], [1e9, 0, 1]])
    faces = np.concatenate([mesh.faces, [[n, n + 1, n + 2]]])
    with pytest.raises(WsdemoError, match="Reducing its 1,281 faces leaves 0"):
        check_mesh(np.concatenate([mesh.vertices, far]), faces, "ply")


# ---- meshes far from the origin, and tiny ones ---------------------------------------


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize(("place", "radius"), [((5e5, 5.4e6, 300), 1.0), ((0, 0, 0), 1e-5)])
def test_the_place_and_size_of_a_mesh_are_kept_or_it_is_said(kind, place, radius, tmp_path):
    mesh = Mesh(ball(radius).vertices + np.array(place), ball().faces)
    content = mesh_bytes(mesh, kind)
    assert content == mesh_bytes(mesh, kind)
    if note := precision_note(mesh, [kind]):
        assert kind in ("ply", "stl")
        assert "steps of 0.5" in note
        return
    read, report = open_mesh(written(tmp_path, content, f"x.{kind}"))
    assert report.is_watertight
    assert len(read.vertices) == len(mesh.vertices)
    np.testing.assert_allclose(read.vertices.mean(0), mesh.vertices.mean(0), atol=1e-5 * radius)
    assert statistics(read)["volume"] == pytest.approx(statistics(mesh)["volume"], rel=1e-5)
