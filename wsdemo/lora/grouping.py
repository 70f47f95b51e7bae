"""Keys sorted into modules: which adapter, which module, which role; and what stands beside."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsdemo.lora.beside import beside
from wsdemo.lora.containers.finding import no_such_adapter
from wsdemo.lora.forms.choice import form_of
from wsdemo.lora.keys import Part, bare_name, split_key
from wsdemo.safetensors_header import Header

Roles = Mapping[str, tuple[str, Part]]
"""Role → (key, part) of one module."""


@dataclass(frozen=True)
class Beside:
    """A tensor that is no part of an update: what it is, why, and the module it stands beside."""

    key: str
    what: str
    why: str
    module: str = ""


@dataclass
class Groups:
    """The keys of a file.

    Attributes:
        modules: Name → role → (key, part).
        beside: The tensors that fit nowhere.
        doubts: Why the file is not exact.
        notes: What else is to be said.
        pruned: Names of modules of rank 0, which are nothing.
    """

    modules: dict[str, dict[str, tuple[str, Part]]] = field(default_factory=dict)
    beside: list[Beside] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)

    @property
    def has_update(self) -> bool:
        """Whether any module has what a form needs."""
        return any(form_of(tuple(roles)) for roles in self.modules.values())


def group(header: Header, chosen: str = "") -> Groups:
    """Sorts the keys of a header.

    Args:
        header: Of a file.
        chosen: The name of one of several adapters; empty for ``default``, else the first.

    Raises:
        WsdemoError: There is none of this name.
    """
    groups = Groups()
    parts = {key: split_key(key) for key in sorted(header.tensors)}
    adapter, others = _adapters(parts, chosen)
    if others and chosen:
        shown = ", ".join(n[:40] for n in sorted(others)[:8])
        groups.notes.append(f"{adapter[:40]!r} was read, as asked; the file also holds {shown}")
    elif others:
        names = sorted({adapter, *others})
        groups.doubts.append(
            f"the file holds {'two' if len(names) == 2 else len(names)} adapters:"
            f" {', '.join(n[:40] for n in names[:8])}; only"
            f" {adapter[:40]!r} was read (choose one with --adapter NAME)"
        )
    empty = []
    for key, part in parts.items():
        if part is None:
            what, why = beside(key)
            is_empty = 0 in header.tensors[key][1]
            if is_empty:
                empty.append(key)
                why = f"{_EMPTY}; it is {why}"
            groups.beside.append(Beside(key, what, why))
        elif part.adapter and part.adapter in others:
            groups.beside.append(
                Beside(key, "unread", f"of another adapter, {part.adapter[:60]!r}")
            )
        elif part.role in groups.modules.setdefault(part.module, {}):
            other = groups.modules[part.module][part.role][0]
            why = f"a second {part.role} of the same module, as {other}"
            groups.beside.append(Beside(key, "unread", why))
            groups.doubts.append(f"{part.module[:80]} has a second {part.role}, which was left out")
        else:
            groups.modules[part.module][part.role] = (key, part)
    _take_out_empty(groups, header, empty)
    _whole_vectors(groups, header)
    _name_modules(groups)
    return groups


def _adapters(parts: Mapping[str, Part | None], chosen: str) -> tuple[str, set[str]]:
    """The adapter that is read, and the names of the others."""
    names = {part.adapter for part in parts.values() if part and part.adapter}
    if chosen and chosen not in names:
        raise no_such_adapter(chosen, sorted(names))
    if len(names) < 2:
        return next(iter(names), ""), set()
    chosen = chosen or ("default" if "default" in names else min(names))
    return chosen, names - {chosen}


_EMPTY = "empty: saved under ZeRO-3 or FSDP without gathering"


def _take_out_empty(groups: Groups, header: Header, empty: list[str]) -> None:
    """Modules of rank 0 are nothing; other empty tensors were not gathered when they were saved."""
    hollow_keys = {key for key, (_, shape) in header.tensors.items() if 0 in shape}
    for name in list(groups.modules) if hollow_keys else ():
        roles = groups.modules[name]
        shapes = {role: header.tensors[key][1] for role, (key, _) in roles.items()}
        hollow = [role for role, shape in shapes.items() if 0 in shape]
        if not hollow:
            continue
        if all(len(shapes[role]) > 1 for role in hollow):
            why = "of a module pruned to rank 0, which is nothing"
            groups.pruned.append(name)
            what = "mark"
        else:
            why, what = _EMPTY, "unread"
            empty += [roles[role][0] for role in hollow]
        for key, _ in groups.modules.pop(name).values():
            groups.beside.append(Beside(key, what, why))
    if groups.pruned:
        count = len(groups.pruned)
        groups.notes.append(
            f"{count} module{'s' if count > 1 else ''} pruned to rank 0, which change nothing:"
            f" {groups.pruned[0][:80]} …"
        )
    if empty:
        names = ", ".join(bare_name(key)[:60] for key in empty[:3])
        groups.notes.append(
            f"{len(empty)} tensors are {_EMPTY}: {names}{' …' if len(empty) > 3 else ''}"
        )
        if any(split_key(key) for key in empty):
            groups.doubts.append("factors of some modules are empty")


def _whole_vectors(groups: Groups, header: Header) -> None:
    """Differences of vectors and of what has five sides are kept, and never factored."""
    for name in list(groups.modules):
        roles = groups.modules[name]
        if "diff" not in roles:
            continue
        key = roles["diff"][0]
        shape = header.tensors[key][1]
        is_matrix = len([side for side in shape if side > 1]) > 1 and 2 <= len(shape) <= 4
        if is_matrix and not name.endswith("modulation"):
            continue
        del roles["diff"]
        what, why = beside(key)
        groups.beside.append(Beside(key, what, why, name if roles else ""))
        if not roles:
            del groups.modules[name]


def _name_modules(groups: Groups) -> None:
    """Tells beside which module a tensor stands; one that is not known there is a doubt."""
    unknown = []
    for i, entry in enumerate(groups.beside):
        name = bare_name(entry.key).rpartition(".")[0]
        while name and name not in groups.modules:
            name = name.rpartition(".")[0] if _is_below(entry.key, name) else ""
        if not name:
            continue
        groups.beside[i] = Beside(entry.key, entry.what, entry.why, name)
        if entry.what == "other" or bare_name(entry.key) == f"{name}.weight":
            unknown.append(entry.key)
    if unknown:
        shown = ", ".join(repr(key[:80]) for key in unknown[:3])
        groups.doubts.append(
            f"{len(unknown)} tensors beside the factors are not known here: {shown}"
            f"{' …' if len(unknown) > 3 else ''}"
        )


def _is_below(key: str, name: str) -> bool:
    """Whether to look one name up: ``x.lora_B.bias`` stands beside x."""
    return name.rpartition(".")[2].startswith(("lora_", "hada_", "lokr_", "default", "weight"))
