"""What diffusers makes of each base's LoRAs in each spelling: asked of its own loaders.

    python -m benchmarks.diffusers_reads          # writes wsdemo/lora/bases/readers/diffusers.toml
    python -m benchmarks.diffusers_reads flux1    # asks again for one base

A model of the base's architecture with two blocks of each kind, whose weights take no memory, gets
a LoRA of one module a kind from ``load_lora_weights`` of its pipeline's loader. A module is read if
the factors that the library then applies are the ones in the file, to 1e-5.
"""

import argparse
import inspect
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
from diffusers.loaders import lora_pipeline
from torch import Tensor

from benchmarks import diffusers_encoders as encoders
from benchmarks.diffusers_models import (
    BLOCK,
    CLOSE,
    ENDINGS,
    apart,
    applied,
    build,
    built,
    kronecker,
    loader,
    one_a_kind,
    tensors_of,
)
from wsdemo.lora.bases.canonical import spelled_for
from wsdemo.lora.bases.readers import loader_of
from wsdemo.lora.bases.tables import Base, Spelling, all_tables, bases, numberless
from wsdemo.lora.modules import LoraModule

OUT = Path("wsdemo/lora/bases/readers/diffusers.toml")


@dataclass
class Outcome:
    """What became of a file.

    Attributes:
        error: What the loader raised; empty if it loaded.
        read: Canonical modules that have the right update.
        wrong: Those that have another one.
        lost: Those that have none.
    """

    error: str = ""
    read: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return bool(self.read) and not self.lost and not self.wrong


def _is_meant(base: Base, tensors: dict[str, Tensor]) -> bool:
    """Whether anything is left for the model once the loader has converted the keys.

    It spares most files a model of their own.
    """
    name = base.source.get("loader")
    if not name:
        return True
    options = {"unet_config": built(base.key).config} if base.component == "unet" else {}
    found = getattr(lora_pipeline, name).lora_state_dict(
        {k: v.clone() for k, v in tensors.items()}, **options
    )
    state = found[0] if isinstance(found, tuple) else found
    return any(key.startswith(f"{base.component}.") for key in state)


def tried(base: Base, modules: Mapping[str, LoraModule], spelling: Spelling, form: str) -> Outcome:
    """Loads modules in one spelling and form into a fresh model."""
    named, left = spelled_for(modules, base, spelling)
    tensors = tensors_of(named, form)
    try:
        if not _is_meant(base, tensors):
            return Outcome(lost=[name for name in modules if name not in left])
        model = build(base)
        loader(base, model)(tensors)
    except Exception as error:  # the library's own, of any kind
        return Outcome(f"{type(error).__name__}: {str(error)[:120]}")
    there, found = applied(model), Outcome()
    for name, module in modules.items():
        if name in left:
            continue
        own = (module.U, module.V)
        if form.startswith("lokr"):
            w1, w2 = kronecker(module)
            own = (w1, w2)
        if name not in there:
            found.lost.append(name)
        elif form.startswith("lokr"):
            is_same = all(a.shape == b.shape for a, b in zip(own, there[name], strict=True))
            ratio = (
                float(there[name][0].norm() * there[name][1].norm() / own[0].norm() / own[1].norm())
                if is_same
                else 0.0
            )
            (found.read if abs(ratio - 1) < CLOSE else found.wrong).append(name)
        else:
            is_same = apart(own, there[name]) < CLOSE
            (found.read if is_same else found.wrong).append(name)
    return found


def smaller(modules: Mapping[str, LoraModule]) -> Iterable[dict[str, LoraModule]]:
    """Fewer and fewer kinds of modules: those in blocks, without modulations, attention alone."""
    inside = {n: m for n, m in modules.items() if BLOCK.search(n)}
    yield inside
    yield {n: m for n, m in inside.items() if "norm" not in n and "mod" not in n}
    yield {n: m for n, m in inside.items() if "attn" in n or "attention" in n}


def _add(
    base: Base,
    spelling: Spelling,
    form: str,
    chosen: dict[str, LoraModule],
    rest: dict[str, LoraModule],
    found: Outcome,
    refused: list[str],
) -> None:
    """Tries further kinds beside those that are read: all, then halves of those that do not go."""
    if not rest:
        return
    more = tried(base, chosen | rest, spelling, form)
    if not more.error:
        found.read += [n for n in more.read if n in rest]
        found.lost += [n for n in more.lost if n in rest]
        found.wrong += [n for n in more.wrong if n in rest]
    elif len(rest) == 1:
        refused += rest
    else:
        names = list(rest)
        for half in (names[: len(names) // 2], names[len(names) // 2 :]):
            _add(base, spelling, form, chosen, {n: rest[n] for n in half}, found, refused)


def rule(base: Base, modules: Mapping[str, LoraModule], spelling: Spelling, form: str
         ) -> dict[str, Any] | None:  # fmt: skip
    """What is read in one spelling and form; None if nothing is."""
    found = tried(base, modules, spelling, form)
    refused: list[str] = []
    if found.error:
        for chosen in smaller(modules):
            found = tried(base, chosen, spelling, form)
            if not found.error:
                break
        if found.error or not found.read:
            return None
        rest = {n: m for n, m in modules.items() if n not in chosen}
        _add(base, spelling, form, chosen, rest, found, refused)
    if not found.read:
        return None
    kept = {n: m for n, m in modules.items() if n in found.read}
    less = dict(list(kept.items())[:-1])
    is_whole = len(less) > 1 and bool(tried(base, less, spelling, form).error)
    texts = {"lost": found.lost, "wrong": found.wrong, "refused": refused}
    return {k: sorted(set(map(numberless, v))) for k, v in texts.items() if v} | (
        {"whole": True} if is_whole else {}
    )


def _knows_lokr(base: Base) -> bool:
    """Whether the loader of a base speaks of LoKr at all; the models' own does."""
    name = base.source.get("loader")
    return not name or "lokr" in inspect.getsource(getattr(lora_pipeline, name).lora_state_dict)


def rules(base: Base) -> Iterable[tuple[str, list[str], dict[str, Any]]]:
    """Spelling, forms, and what is read of it, of one base."""
    modules = one_a_kind(base, build(base))
    attention = {n: m for n, m in modules.items() if "attn" in n or "attention" in n}
    seen: dict[tuple[str, str], Spelling] = {}
    for spelling in base.spellings:
        seen.setdefault((spelling.prefix, spelling.naming), spelling)
    for (prefix, naming), spelling in seen.items():
        same: dict[str, list[str]] = {}
        is_fused = any(len(p) > 1 for p in base.namings[naming].values())
        for form in ENDINGS:
            is_lokr, is_old = form.startswith("lokr"), form in ("layers", "processors")
            if is_old and (spelling.is_flat or not (base.component == "unet" or naming == "xlabs")):
                continue  # diffusers' first generations, and XLabs
            if (spelling.is_flat and form.startswith("A B")) or (is_lokr and is_fused):
                continue  # nobody writes it, or its factors are those of the fused module
            if is_lokr and not _knows_lokr(base):
                continue
            is_small = is_lokr or form == "processors"
            found = rule(base, attention if is_small else modules, spelling, form)
            if found is not None:
                same.setdefault(json.dumps(found), []).append(form)
        for text, forms in same.items():
            yield f"{prefix}{{{naming}}}", forms, json.loads(text)


def representatives() -> list[Base]:
    """One base a loader and architecture: the one with the most kinds of modules."""
    found: dict[str, Base] = {}
    for base in bases():
        if "model" in base.source:
            kinds = len(set(map(numberless, base.shapes)))
            other = found.get(loader_of(base))
            if other is None or len(set(map(numberless, other.shapes))) < kinds:
                found[loader_of(base)] = base
    return list(found.values())


def page(found: Mapping[str, list[tuple[str, list[str], dict[str, Any]]]]) -> str:
    """The file of facts."""
    lines = [
        f"# What diffusers {diffusers.__version__} reads, asked of its own loaders: written by",
        "# python -m benchmarks.diffusers_reads. Names are canonical, # for their numbers.",
        "# lost: no update; wrong: another one; refused: the whole file is, if they are in it;",
        "# whole: it is too, if a module of a block is missing.",
        f'version = "{diffusers.__version__}"',
    ]
    for key, own in found.items():
        for spelling, forms, texts in own:
            lines += ["", f'[["{key}"]]', f'spelling = "{spelling}"']
            lines.append(f"forms = {json.dumps(forms)}")
            lines += [f"{k} = {json.dumps(v)}" for k, v in texts.items()]
    return "\n".join(lines) + "\n"


def stored() -> dict[str, list[tuple[str, list[str], dict[str, Any]]]]:
    """What the file of facts has."""
    found = tomllib.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    found.pop("version", None)
    return {
        key: [(r.pop("spelling"), r.pop("forms"), r) for r in own] for key, own in found.items()
    }


def main() -> None:
    """Asks for all bases, or for some again, and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bases", nargs="*")
    args = parser.parse_args()
    diffusers.utils.logging.set_verbosity(50)
    found = stored() if args.bases else {}
    for base in [all_tables()[key] for key in args.bases] or representatives():
        key = loader_of(base)
        found[key] = list(rules(base))
        found |= {f"{key} {part}": own for part, own in encoders.rules(base).items()}
        print(page({key: found[key]}).partition("\n\n")[2], flush=True)
    OUT.write_text(page(dict(sorted(found.items()))), encoding="utf-8")


if __name__ == "__main__":
    main()
