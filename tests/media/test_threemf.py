"""3MF: parts and paths, shared numbers, units, mirrors, and what slicers add."""

import io
import zipfile

import pytest

from tests.media.test_formats import TRIANGLES, V, write
from wsdemo.errors import WsdemoError
from wsdemo.media.mesh_files import open_mesh
from wsdemo.media.meshes import statistics

SPACE = (
    'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"'
    ' xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06"'
)
MAIN = "3D/3dmodel.model"


def solid(side: float, number: int = 1, kind: str = "model") -> str:
    corners = "".join('<vertex x="{:g}" y="{:g}" z="{:g}"/>'.format(*tuple(p * side)) for p in V)
    faces = "".join('<triangle v1="{}" v2="{}" v3="{}"/>'.format(*f) for f in TRIANGLES)
    return (
        f'<object id="{number}" type="{kind}"><mesh><vertices>{corners}</vertices>'
        f"<triangles>{faces}</triangles></mesh></object>"
    )


def model(resources: str, build: str, unit: str = "millimeter") -> str:
    return (
        f'<?xml version="1.0"?><model unit="{unit}" {SPACE}><resources>{resources}</resources>'
        f"<build>{build}</build></model>"
    )


def packed(parts: dict, root: str = MAIN) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Target="/{root}" Id="r"'
            ' Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>',
        )
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def opened(tmp_path, *arguments):
    mesh, report = open_mesh(write(tmp_path, "a.3mf", packed(*arguments)))
    return statistics(mesh), report.notes


def test_parts_of_several_files_may_share_numbers(tmp_path):
    place = "".join(
        f'<object id="{10 + k}"><components>'
        f'<component p:path="/3D/Objects/o{k}.model" objectid="1"/>'
        "</components></object>" for k in (1, 2, 3)
    )  # fmt: skip
    items = "".join(
        f'<item objectid="{10 + k}" transform="1 0 0 0 1 0 0 0 1 {30 * k} 0 0"/>' for k in (1, 2, 3)
    )
    files = {f"3D/Objects/o{k}.model": model(solid(5 * k), "") for k in (1, 2, 3)}
    facts, _ = opened(tmp_path, {MAIN: model(place, items), **files})
    assert (facts["parts"], facts["volume"]) == (3, pytest.approx(4500))


def test_an_item_may_name_a_file_and_the_root_may_be_called_anything(tmp_path):
    item = '<item objectid="1" p:path="/3D/o.model"/>'
    files = {"a/b.model": model("", item), "3D/o.model": model(solid(10), "")}
    facts, _ = opened(tmp_path, files, "a/b.model")
    assert facts["volume"] == pytest.approx(1000)


def test_only_models_are_unpacked(tmp_path):
    gcode = b"G1 X1 Y2 E0.1\n" * 5_000_000
    facts, _ = opened(
        tmp_path, {MAIN: model(solid(10), '<item objectid="1"/>'), "Metadata/plate_1.gcode": gcode}
    )
    assert facts["volume"] == pytest.approx(1000)


def test_transforms_are_row_vectors_and_mirrors_stay_outward(tmp_path):
    turned = '<item objectid="1" transform="0 2 0 -1 0 0 0 0 1 100 0 0"/>'
    facts, _ = opened(tmp_path, {MAIN: model(solid(10), turned)})
    assert (facts["width"], facts["height"]) == (pytest.approx(10), pytest.approx(20))
    mirrored = '<item objectid="1" transform="-1 0 0 0 1 0 0 0 1 0 0 0"/>'
    facts, _ = opened(tmp_path, {MAIN: model(solid(10), mirrored)})
    assert facts["volume"] == pytest.approx(1000)


def test_units_are_kept_said_and_converted_between_files(tmp_path):
    item = '<item objectid="1" p:path="/3D/o.model"/>'
    files = {MAIN: model("", item, "centimeter"), "3D/o.model": model(solid(10), "")}
    facts, notes = opened(tmp_path, files)
    assert facts["width"] == pytest.approx(1)
    assert "Its unit is the centimeter." in notes


def test_modifiers_of_slicers_are_no_parts(tmp_path):
    whole = (solid(10, 1) + solid(30, 2)
             + '<object id="5"><components><component objectid="1"/><component objectid="2"/>'
             "</components></object>")  # fmt: skip
    settings = (
        '<config><object id="5"><part id="1" subtype="normal_part"/>'
        '<part id="2" subtype="modifier_part"/></object></config>'
    )
    facts, notes = opened(
        tmp_path,
        {MAIN: model(whole, '<item objectid="5"/>'), "Metadata/model_settings.config": settings},
    )
    assert facts["volume"] == pytest.approx(1000)
    assert any("modifier part" in note for note in notes)


def test_supports_are_left_out_and_an_empty_build_takes_all(tmp_path):
    items = '<item objectid="1"/><item objectid="2"/>'
    facts, notes = opened(tmp_path, {MAIN: model(solid(10) + solid(20, 2, "support"), items)})
    assert facts["volume"] == pytest.approx(1000)
    assert any("support" in note for note in notes)
    facts, notes = opened(tmp_path, {MAIN: model(solid(10), "")})
    assert facts["volume"] == pytest.approx(1000)
    assert any("build list is empty" in note for note in notes)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(WsdemoError, match="object '7'"):
        opened(tmp_path, {MAIN: model(solid(10), '<item objectid="7"/>')})
    with pytest.raises(WsdemoError, match="no intact XML"):
        opened(tmp_path, {MAIN: "<model><resources>"})
    with pytest.raises(WsdemoError, match="G-code"):
        opened(tmp_path, {"a.gcode": "G1"})
