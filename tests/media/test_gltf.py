"""glTF: skins, morphs, sparse accessors, instances, strips, mirrors, buffers beside the file."""

import base64
import json
import struct
import zipfile

import DracoPy
import numpy as np
import pytest

from tests.media.test_formats import TRIANGLES, V, write
from wsdemo.errors import WsdemoError
from wsdemo.media.mesh_files import open_mesh
from wsdemo.media.meshes import statistics


class Scene:
    """The least that makes a glTF."""

    def __init__(self):
        self.body, self.views, self.accessors, self.meshes = b"", [], [], []

    def view(self, data: bytes) -> int:
        self.body += b"\0" * (-len(self.body) % 4)
        self.views.append({"buffer": 0, "byteOffset": len(self.body), "byteLength": len(data)})
        self.body += data
        return len(self.views) - 1

    def add(self, values, component: int, kind: str, **more) -> int:
        count = int(values.size if kind == "SCALAR" else len(values))
        self.accessors.append({"bufferView": self.view(np.ascontiguousarray(values).tobytes()),
                               "componentType": component, "count": count, "type": kind,
                               **more})  # fmt: skip
        return len(self.accessors) - 1

    def mesh(self, vertices, faces=TRIANGLES, **more) -> int:
        primitive = {
            "attributes": {"POSITION": self.add(np.asarray(vertices, "<f4"), 5126, "VEC3")}
        }
        primitive["indices"] = self.add(np.asarray(faces, "<u4").ravel(), 5125, "SCALAR")
        self.meshes.append({"primitives": [primitive | more]})
        return len(self.meshes) - 1

    def tree(self, nodes, roots=None, uri=None, **more) -> bytes:
        buffer = {"byteLength": len(self.body)} | ({"uri": uri} if uri else {})
        return json.dumps({
            "asset": {"version": "2.0"}, "scene": 0, "nodes": nodes, "meshes": self.meshes,
            "scenes": [{"nodes": roots or list(range(len(nodes)))}], "bufferViews": self.views,
            "accessors": self.accessors, "buffers": [buffer], **more,
        }).encode()  # fmt: skip

    def glb(self, nodes, **more) -> bytes:
        text = self.tree(nodes, **more)
        text += b" " * (-len(text) % 4)
        body = self.body + b"\0" * (-len(self.body) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(body), b"BIN\0") + body
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def opened(tmp_path, content, name="a.glb"):
    mesh, report = open_mesh(write(tmp_path, name, content))
    return mesh, statistics(mesh), report.notes


def skinned(scene: Scene, vertices=V, joint=0):
    number = scene.mesh(vertices)
    weights = np.zeros((8, 4), "<f4")
    weights[:, 0] = 1
    joints = np.full((8, 4), joint, "u1")
    scene.meshes[number]["primitives"][0]["attributes"] |= {
        "JOINTS_0": scene.add(joints, 5121, "VEC4"), "WEIGHTS_0": scene.add(weights, 5126, "VEC4")
    }  # fmt: skip
    return number


def test_a_skinned_mesh_follows_its_joints_and_not_its_node(tmp_path):
    scene = Scene()
    number = skinned(scene)
    bind = np.eye(4, dtype="<f4")
    bind[3, 0] = 2.0  # column-major: a translation by 2 in x
    skin = {"joints": [1], "inverseBindMatrices": scene.add(bind.reshape(1, 16), 5126, "MAT4")}
    nodes = [{"mesh": number, "skin": 0, "translation": [0, 50, 0], "scale": [0.01] * 3},
             {"translation": [0, 3, 0], "scale": [2, 2, 2]}]  # fmt: skip
    mesh, facts, notes = opened(tmp_path, scene.glb(nodes, skins=[skin]))
    assert facts["volume"] == pytest.approx(8)
    np.testing.assert_allclose(mesh.vertices.mean(0), [4, 3, 0], atol=1e-6)
    assert any("skeleton" in note for note in notes)


def test_joints_outside_of_the_scene_still_move_it(tmp_path):
    scene = Scene()
    nodes = [{"mesh": skinned(scene), "skin": 0}, {"children": [2], "translation": [1, 0, 0]},
             {"translation": [0, 3, 0]}]  # fmt: skip
    mesh, _, _ = opened(tmp_path, scene.glb(nodes, roots=[0], skins=[{"joints": [2]}]))
    np.testing.assert_allclose(mesh.vertices.mean(0), [1, 3, 0], atol=1e-6)


@pytest.mark.parametrize("place", ["mesh", "node"])
def test_default_morph_weights_enter(place, tmp_path):
    scene = Scene()
    number = scene.mesh(V)
    target = {"POSITION": scene.add((V * [2, 0, 0]).astype("<f4"), 5126, "VEC3")}
    scene.meshes[number]["primitives"][0]["targets"] = [target]
    node = {"mesh": number}
    (scene.meshes[number] if place == "mesh" else node)["weights"] = [0.5]
    _, facts, _ = opened(tmp_path, scene.glb([node]))
    assert facts["width"] == pytest.approx(2)


@pytest.mark.parametrize("has_view", [True, False])
def test_sparse_accessors_are_filled_in(has_view, tmp_path):
    scene = Scene()
    number = scene.mesh(V)
    accessor = scene.accessors[0]
    if not has_view:
        del accessor["bufferView"]
    accessor["sparse"] = {
        "count": 8,
        "indices": {"bufferView": scene.view(np.arange(8, dtype="<u2").tobytes()),
                    "componentType": 5123},
        "values": {"bufferView": scene.view((V * [4, 1, 1]).astype("<f4").tobytes())},
    }  # fmt: skip
    _, facts, _ = opened(tmp_path, scene.glb([{"mesh": number}]))
    assert facts["volume"] == pytest.approx(4)


def test_instances_of_a_node_are_placed(tmp_path):
    scene = Scene()
    number = scene.mesh(V)
    attributes = {
        "TRANSLATION": scene.add(np.array([[0, 0, 0], [3, 0, 0], [6, 0, 0]], "<f4"), 5126, "VEC3"),
        "SCALE": scene.add(np.array([[1, 1, 1], [1, 1, 1], [1, 2, 1]], "<f4"), 5126, "VEC3"),
    }
    node = {"mesh": number, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}
    content = scene.glb([node], extensionsRequired=["EXT_mesh_gpu_instancing"])
    _, facts, _ = opened(tmp_path, content)
    assert (facts["parts"], facts["width"]) == (3, pytest.approx(7))
    assert facts["volume"] == pytest.approx(4)


@pytest.mark.parametrize(("mode", "index"), [
    (4, [0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3]), (5, [0, 1, 2, 3, 0, 1]), (6, [0, 2, 1, 3, 2])
])  # fmt: skip
def test_triangles_strips_and_fans(mode, index, tmp_path):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    scene = Scene()
    primitives = [scene.mesh(corners, np.array(index), mode=mode)]
    if mode == 6:
        primitives.append(scene.mesh(corners, np.array([1, 2, 3])))
    _, facts, _ = opened(tmp_path, scene.glb([{"mesh": i} for i in primitives]))
    assert abs(facts["volume"]) == pytest.approx(1 / 6)
    assert facts["faces"] == 4


def packed(vertices=V, faces=TRIANGLES, announced=None, **options) -> Scene:
    """A scene whose mesh is packed by Draco."""
    scene = Scene()
    data = DracoPy.encode(vertices.astype(np.float32), faces.astype(np.uint32), **options)
    count = len(DracoPy.decode(data).points)
    scene.accessors += [
        {"componentType": 5126, "count": count, "type": "VEC3"},
        {"componentType": 5125, "count": 3 * len(faces) if announced is None else announced,
         "type": "SCALAR"},
    ]  # fmt: skip
    extension = {"bufferView": scene.view(data), "attributes": {"POSITION": 0}}
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}
    primitive["extensions"] = {"KHR_draco_mesh_compression": extension}
    scene.meshes.append({"primitives": [primitive]})
    return scene


@pytest.mark.parametrize("level", [1, 7, 10])
def test_what_draco_packs_is_unpacked(level, tmp_path):
    scene = packed(compression_level=level)
    content = scene.glb(
        [{"mesh": 0, "scale": [-1, 2, 1]}], extensionsRequired=["KHR_draco_mesh_compression"]
    )
    _, facts, _ = opened(tmp_path, content)
    assert facts["volume"] == pytest.approx(2, rel=1e-3)
    assert facts["height"] == pytest.approx(2, rel=1e-3)


def test_a_packed_mesh_that_is_damaged_or_holds_more_than_it_says_is_refused(tmp_path):
    with pytest.raises(WsdemoError, match="12 faces where its glTF says 1"):
        opened(tmp_path, packed(announced=1).glb([{"mesh": 0}]))
    for cut in (5, 30, 60):
        scene = packed()
        scene.body = scene.body[:cut] + b"\xff" * (len(scene.body) - cut)
        with pytest.raises(WsdemoError, match="Draco"):
            opened(tmp_path, scene.glb([{"mesh": 0}]))


def test_quantised_and_interleaved_numbers_are_read(tmp_path):
    scene = Scene()
    rows = np.zeros(8, np.dtype([("place", "<i2", 3), ("gap", "<i2"), ("normal", "i1", 4)]))
    rows["place"] = np.round(V * 2 * 32767)
    view = scene.view(rows.tobytes())
    scene.views[view]["byteStride"] = rows.itemsize
    scene.accessors.append({"bufferView": view, "componentType": 5122, "normalized": True,
                            "count": 8, "type": "VEC3"})  # fmt: skip
    index = scene.add(TRIANGLES.astype("<u2").ravel(), 5123, "SCALAR")
    scene.meshes.append({"primitives": [{"attributes": {"POSITION": 0}, "indices": index}]})
    content = scene.glb([{"mesh": 0}], extensionsRequired=["KHR_mesh_quantization"])
    assert opened(tmp_path, content)[1]["volume"] == pytest.approx(8, rel=1e-3)


def test_a_mirroring_node_keeps_faces_outward(tmp_path):
    scene = Scene()
    _, facts, _ = opened(tmp_path, scene.glb([{"mesh": scene.mesh(V), "scale": [-1, 1, 1]}]))
    assert facts["volume"] == pytest.approx(1)


def test_lines_are_left_out_and_said_and_hidden_nodes_too(tmp_path):
    scene = Scene()
    hidden = {"mesh": scene.mesh(V), "extensions": {"KHR_node_visibility": {"visible": False}}}
    nodes = [{"mesh": scene.mesh(V)}, {"mesh": scene.mesh(V, np.array([0, 1]), mode=1)}, hidden]
    _, facts, notes = opened(tmp_path, scene.glb(nodes))
    assert facts["volume"] == pytest.approx(1)
    assert sum("left out" in note for note in notes) == 2


def test_buffers_come_from_data_uris_files_beside_several_files_and_zips(tmp_path):
    scene = Scene()
    nodes = [{"mesh": scene.mesh(V)}]
    data = "data:application/octet-stream;base64," + base64.b64encode(scene.body).decode()
    assert opened(tmp_path, scene.tree(nodes, uri=data), "a.gltf")[1]["volume"] == pytest.approx(1)
    for spelled in (data.replace("+", "%2B").replace("=", "%3D"), "DATA" + data[4:].rstrip("=")):
        found = opened(tmp_path, scene.tree(nodes, uri=spelled), "a.gltf")[1]
        assert found["volume"] == pytest.approx(1)
    text = scene.tree(nodes, uri="my%20scene.bin")
    with pytest.raises(WsdemoError, match=r"another file, 'my%20scene\.bin'"):
        opened(tmp_path, text, "b.gltf")
    beside = write(tmp_path, "my scene.bin", scene.body)
    mesh, _ = open_mesh(tmp_path / "b.gltf")
    assert statistics(mesh)["volume"] == pytest.approx(1)
    (tmp_path / "c").mkdir()
    apart = write(tmp_path / "c", "scene.gltf", text)
    mesh, _ = open_mesh([beside, apart])
    assert statistics(mesh)["volume"] == pytest.approx(1)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("x/scene.gltf", text)
        archive.writestr("x/my scene.bin", scene.body)
    mesh, _ = open_mesh(tmp_path / "d.zip")
    assert statistics(mesh)["volume"] == pytest.approx(1)


def test_no_buffer_outside_of_the_folder_is_read(tmp_path):
    scene = Scene()
    nodes = [{"mesh": scene.mesh(V)}]
    write(tmp_path, "secret.bin", scene.body)
    (tmp_path / "in").mkdir()
    for uri in ("../secret.bin", "%2e%2e/secret.bin", str(tmp_path / "secret.bin")):
        path = write(tmp_path / "in", "a.gltf", scene.tree(nodes, uri=uri))
        with pytest.raises(WsdemoError, match="another file"):
            open_mesh(path)
