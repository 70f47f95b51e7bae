"""Writes docs/results.md from the stored results: ``python -m benchmarks.report``.

Each table names the command that measured it, the machine, data and seeds. Figures of
the papers stand beside ours where both measured the same thing.
"""

from functools import partial

from benchmarks import (
    report_cases,
    report_faces,
    report_house,
    report_library,
    report_lol,
    report_loras,
    report_page,
    report_representations,
    report_shapes,
    report_visitors,
    report_weights,
)
from benchmarks.common import RESULTS, load_result
from wsdemo.files import write_whole

SECTIONS = {
    "faces-reconstruction": report_faces.reconstruction,
    "faces-reconstruction-6700": partial(report_faces.reconstruction, small=True),
    "faces-generation": report_faces.generation,
    "faces-second-space": report_faces.second_space,
    "faces-wishes": report_faces.wishes,
    "faces-speed": report_faces.speed,
    "airplane-reconstruction": partial(report_shapes.reconstruction, "airplane"),
    "shapes-reconstruction": partial(report_shapes.reconstruction, "shapes"),
    "airplane-scores": partial(report_shapes.definitions, "airplane"),
    "shapes-scores": partial(report_shapes.definitions, "shapes"),
    "airplane-generation": partial(report_shapes.generation, "airplane"),
    "shapes-generation": partial(report_shapes.generation, "shapes"),
    "shapes-manifold-generation": partial(report_shapes.generation, "shapes-manifold"),
    "faces-representations": partial(report_representations.representations, "faces"),
    "airplane-representations": partial(report_representations.representations, "airplane"),
    "shapes-representations": partial(report_representations.representations, "shapes"),
    "shapes-speed": report_shapes.speed,
    "field-cases": report_cases.field_cases,
    "budgets": report_cases.budgets,
    "upright": report_cases.upright,
    "clusters": report_weights.clusters,
    "connectivity": report_weights.connectivity,
    "map-speed": report_weights.map_speed,
    "loras": report_loras.loras,
    "lora-kinds": report_loras.lora_kinds,
    "lora-loading": report_loras.lora_loading,
    "answer-time": report_loras.answer_time,
    "house": report_house.house,
    "lora-extraction": report_loras.lora_extraction,
    "library": report_library.library,
    "lol": report_lol.lol,
    "lol-cost": report_lol.lol_cost,
    "first-steps": report_page.first_steps,
    "visitors": report_visitors.visitors,
}
FAMILIES = ("face-generator", "face-fields", "face-fields-lora", "smollm2")


def text() -> str:
    """The page, from what is stored."""
    parts = [
        "# Results\n\nWritten by `python -m benchmarks.report` from docs/results/*.json; "
        "each table stands below the command that measured it.\n"
    ]
    for name, section in SECTIONS.items():
        result = load_result(name)
        if result:
            parts.append(section(result))
    parts += [found for name in FAMILIES if (found := report_lol.family(name))]
    return "\n".join(parts)


def main() -> None:
    write_whole(RESULTS.parent / "results.md", text())


if __name__ == "__main__":
    main()
