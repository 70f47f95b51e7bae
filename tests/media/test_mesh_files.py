"""Mesh files: every format goes around; every bad file gets a clear message, quickly."""

import builtins
import io
import json
import struct
import time
import zipfile

import numpy as np
import pytest
import trimesh

from tests.media.shapes import ball, box, torus
from wsdemo.errors import WsdemoError
from wsdemo.limits import KEPT_MESH_FACES, MAX_MESH_FACES
from wsdemo.media import mesh_files
from wsdemo.media.mesh_files import READABLE, WRITABLE, check_mesh, mesh_bytes, open_mesh
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
    "cut off.glb": (mesh_bytes(ball(), "glb")[:500], "unreadable"),
    "not glTF.glb": ("<html>404 not found</html>", "does not begin like a GLB"),
    "length lies.glb": (b"glTF" + struct.pack("<II", 2, 2**31) + b"\xff" * 40, "unreadable"),
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
    "bomb.3mf": (bomb(), "unpacks to 401 MB"),
    "pickle.pkl": (b"\x80\x04.", "expected glb"),
    "no suffix": (b"", "expected glb"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_a_clear_message_within_seconds(name, tmp_path):
    content, message = BAD[name]
    started = time.monotonic()
    with pytest.raises(WsdemoError) as caught:
        open_mesh(written(tmp_path, content, name))
    assert time.monotonic() - started < 5
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
    started = time.monotonic()
    mesh, report = check_mesh(np.asarray(big.vertices), np.asarray(big.faces), "ply")
    assert time.monotonic() - started < 15
    assert len(mesh.faces) <= KEPT_MESH_FACES
    assert "Reduced from 1,310,720" in report.notes[0]
    assert statistics(mesh)["volume"] == pytest.approx(4 / 3 * np.pi, rel=0.01)


def test_more_faces_than_are_read_are_refused():
    faces = np.zeros((MAX_MESH_FACES + 1, 3), dtype=np.int64)
    with pytest.raises(WsdemoError, match="are allowed"):
        check_mesh(np.zeros((1, 3)), faces, "ply")


def test_files_beyond_the_limit_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_files, "MAX_MESH_BYTES", 10)
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
