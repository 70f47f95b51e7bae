"""Records what every tab opens on: ``python -m wsdemo.ui.opening.record [PART …]``.

Each part is what the tab's own handlers answer, for an input that ships: so a visitor sees at once
what a click would give. The files lie beside this one, in kept/.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from wsdemo.domains.instances import decode_one, open_instance
from wsdemo.domains.registry import families, mapped_names
from wsdemo.maps.weight_map import OWN, editable_maps, weight_map
from wsdemo.runtime import choose_threads, tune_allocator
from wsdemo.ui.clusters import edit_tab, map_walk, points, vary_tab
from wsdemo.ui.fields import closely, fit_layout, fit_tab, sample_tab
from wsdemo.ui.fields.show import files_of
from wsdemo.ui.lora import examples, many, prediction, report
from wsdemo.ui.opening.kept import FOLDER, keep
from wsdemo.ui.shared.events import download_file

FITTED = {"photo": ("astronaut.png", 0), "mesh": ("airplane.glb", 0)}
"""The shipped original that is fitted, and which of the presets fits it."""
SAMPLE = (0, 2)
"""Which of the shipped samples is shown large, in the order of the families."""
SEED = 1
POINT, WALK = 5, (2, 11)
"""Among a map's held-out points: the one that is chosen, and the ends of the walk."""


def record_sample(part: str) -> dict[str, Any]:
    """The gallery, and one of it shown large with its mesh as GLB alone, as others are large."""
    ((family, index),) = [
        pair for pair in zip(families(), SAMPLE, strict=True) if pair[0][0].many == part
    ]
    domain = sample_tab.first_drawn(family)
    drawn, pictures = sample_tab.examples(domain)
    first = {option.name: option.first for option in domain.detail} | dict(domain.quick)
    shown, around, near, words, file, files = closely.inspect(family, drawn, index, first)
    if domain.turntable is not None:
        words += f"\n\nIn less detail here, so that it opens fast: select a {domain.one}."
    return {
        "tiles": pictures, "index": index, "shown": _path(shown), "around": around,
        "nearest": near,
        "words": words, "file": Path(file),
        "files": [Path(f) for f in files if domain.viewer and f.endswith(domain.viewer)],
    }  # fmt: skip


def record_fit(part: str) -> dict[str, Any]:
    """A fit to its end."""
    (family,) = [f for f in families() if f[0].original == part]
    domain, (name, preset) = family[0], FITTED[part]
    path = fit_layout.EXAMPLES / name
    framing = {option.name: option.first for option in domain.page_framing}
    detail = {option.name: option.first for option in domain.detail if option.is_of_fits}
    chosen = list(domain.presets)[preset]
    values = {"path": str(path), "preset": chosen, **framing, **detail}
    seen, notes = fit_tab.look(domain, str(path), framing)
    *_, last = fit_tab.fit(domain, values)
    shown = dict(zip(fit_tab.OUTPUTS, last, strict=True))
    named = Path(download_file(Path(shown["file"]).read_bytes(), f"{path.stem}.safetensors"))
    files = []
    if domain.viewer:  # one format, at fewer cells: a tenth of the bytes
        instance = open_instance(named)
        files = files_of(instance, decode_one(instance, **domain.quick), path.stem)
        files = [Path(f) for f in files if f.endswith(domain.viewer)]
    return {
        "example": name, "preset": chosen, "seen": seen, "report": notes,
        **{key: shown[key] for key in
           ("preview", "curve", "status", "compare", "facts", "off", "trail")},
        "file": named, "canonical": Path(shown["canonical"]),
        "fitted": files[0] if files else None, "files": files,
    }  # fmt: skip


def record_map() -> dict[str, Any]:
    """A chosen point, its neighbours, and a walk."""
    name = mapped_names()[0]
    held = weight_map(name).is_held_out.nonzero().flatten().tolist()
    chosen, picture, words, file = points.show_point(name, held[POINT])
    first, second = held[WALK[0]], held[WALK[1]]
    path, barrier, _ = map_walk.walk(name, first, second)
    start, end = (map_walk.instance_of(name, i) for i in (first, second))
    middle = map_walk.between(start, end, 0.5)
    _, mixed_file = map_walk.mix(name, first, second, 0.5)
    return {
        "chosen": chosen, "shown": picture, "words": words, "file": Path(file),
        "near": points.show_near(name, OWN, chosen), "first": first, "second": second,
        "path": path, "barrier": barrier, "mixed": map_walk.picture_of(middle),
        "mixed_file": Path(str(mixed_file)),
    }  # fmt: skip


def record_variations() -> dict[str, Any]:
    """Variations of a held-out face."""
    drawn = editable_maps()[0]
    index = int(drawn.is_held_out.nonzero().flatten()[POINT])
    _, picture, _, file = points.show_point(drawn.name, index)
    gallery, _, files = vary_tab.variations(file, 0.5, SEED)
    tiles = [Image.open(picture["path"]) for picture, *_ in (t.values() for t in gallery.value)]
    return {
        "source": Path(file), "of": picture, "tiles": tiles, "files": [Path(f) for f in files],
        "chosen": Path(files[0]), "told": "Select one to take it along; variation 1 is chosen.",
    }  # fmt: skip


def record_edit(part: str) -> dict[str, Any]:
    """A held-out instance, edited as the tab's controls stand."""
    (drawn,) = [m for m in editable_maps() if m.name == part]
    first = edit_tab.first_choices(drawn)
    before, after, words, file = edit_tab.edit([drawn], None, *first)
    return {"before": before, "after": after, "words": words, "file": Path(file)}


def record_symmetry() -> dict[str, Any]:
    """A face in another gauge."""
    before, after, words = edit_tab.symmetry(families()[0][0], "mlora-asym", SEED)
    return {"before": before, "after": after, "words": words}


def record_lora() -> dict[str, Any]:
    """The whole report of an example."""
    example = examples.example_choices()[-2]  # of SmolLM2, not the weakest
    path = examples.example_file(example[1])
    card, words, network, _, csv, facts = report.inspect(path, None)
    verdict, true, label, evidence, doses, _, index, _ = prediction.predict(path, None, ())
    return {
        "example": example[1], "file": Path(path), "card": card, "words": words,
        "network": network, "rows": report.table(report.reading_of(path))[report.MEASURED],
        "csv": Path(csv), "json": Path(facts), "verdict": verdict, "true": true,
        "labels": label.choices, "label": label.value, "evidence": evidence, "doses": doses,
        "model_index": index,
    }  # fmt: skip


def _path(shown: Any) -> Any:
    """A mesh's file as what it is; a picture stays."""
    return Path(shown) if isinstance(shown, str) else shown


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"sample-{f[0].many}": (lambda f=f: record_sample(f[0].many)) for f in families()},
    **{f"fit-{f[0].original}": (lambda f=f: record_fit(f[0].original)) for f in families()},
    "map": record_map,
    "variations": record_variations,
    f"edit-{families()[0][0].name}": lambda: record_edit(families()[0][0].name),
    "symmetry": record_symmetry,
    "lora": record_lora,
    "many": many.record,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args(arguments)
    tune_allocator()
    choose_threads()
    for part in args.parts or PARTS:
        keep(part, PARTS[part](), args.out)
        size = sum(f.stat().st_size for f in (args.out / part).rglob("*") if f.is_file())
        print(f"{part}: {size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
