"""One module in two spellings in one file: counted once, and that is said."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wsdemo.lora.forms.choice import form_of
from wsdemo.lora.grouping import Beside, Groups, Roles
from wsdemo.safetensors_header import Header

_PREFIXES = re.compile(
    r"^(module\.|base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|transformer\.|"
    r"unet\.|pipe\.dit\.|lora_unet__?|lora_transformer_|lycoris_(unet_)?)+"
)
_ENCODERS = ((re.compile(r"^text_encoder\.|^lora_te1_"), "lora_te_"),
             (re.compile(r"^text_encoder_2\."), "lora_te2_"))  # fmt: skip
_FUSED = re.compile(r"^(.*[._])?(to_)?(qkv|qkv_proj|wqkv|query_key_value)$", re.IGNORECASE)
_FUSED_ENDS = ("qkv", "qkv_proj", "query_key_value")
_SPLIT = (("to_q", "to_k", "to_v"), ("q", "k", "v"), ("q_proj", "k_proj", "v_proj"),
          ("to.q", "to.k", "to.v"), ("query", "key", "value"))  # fmt: skip
_SAME = 1e-3
"""Relative distance of two updates that are one, stored in half precision."""
_PAIRS = (("down", "up"), ("A", "B"))

Read = Callable[[Sequence[str]], Tensor]
"""Keys of tensors of one type and shape → (k, …) float32."""


def count_once(groups: Groups, header: Header, read: Read) -> None:
    """Takes the second spelling of a module out of the groups.

    Where both hold the same update, that is noted; where they differ, it is a doubt.
    """
    by_name: dict[str, list[str]] = {}
    openings = {name[:_OPENING] for name in groups.modules}
    if len({_spelling(opening) for opening in openings}) > 1:
        for name, roles in groups.modules.items():
            if form_of(tuple(roles)):
                by_name.setdefault(_plain(name), []).append(name)
    same: list[tuple[str, str]] = []
    differing: list[tuple[str, str]] = []
    for names in by_name.values():
        for other in names[1:]:
            is_same = _equal(groups.modules[names[0]], groups.modules[other], header, read)
            (same if is_same else differing).append((names[0], other))
            _leave_out(groups, other, names[0])
    for fused, parts in _fused(groups):
        is_same = _is_stack(groups, fused, parts, header, read)
        for part in parts:
            (same if is_same else differing).append((fused, part))
            _leave_out(groups, part, fused)
    if same:
        groups.notes.append(
            f"{len(same)} modules stand in the file twice, in two spellings, and are counted once:"
            f" {same[0][0][:80]} and {same[0][1][:80]} …"
        )
    if differing:
        groups.doubts.append(
            f"{len(differing)} modules have two different updates, in two spellings, of which the"
            f" first is read: {differing[0][0][:80]} and {differing[0][1][:80]} …"
        )


_OPENING = 9
"""Letters of a name that tell most spellings apart, to spare files of one of them the rest."""
_SPELLINGS = ("unet.", "transform", "diffusion", "lora_unet", "lora_tran", "base_mode", "pipe.dit.",
              "lycoris_")  # fmt: skip


def _spelling(opening: str) -> str:
    return next((s for s in _SPELLINGS if opening.startswith(s)), "")


def _plain(name: str) -> str:
    """The same text for one module in the spellings of several programs."""
    for pattern, prefix in _ENCODERS:
        name = pattern.sub(prefix, name)
    name = _PREFIXES.sub("", name.replace("._orig_mod", "").removeprefix("_orig_mod."))
    return name.replace(".", "_").lower()


def _leave_out(groups: Groups, name: str, first: str) -> None:
    for key, _ in groups.modules.pop(name).values():
        why = f"the same module as {first[:80]}, in another spelling"
        groups.beside.append(Beside(key, "unread", why, first))


def _equal(a: Roles, b: Roles, header: Header, read: Read) -> bool:
    """Whether two modules have equal tensors, whatever they are called."""
    if {"A", "B"} <= set(a) and {"down", "up"} <= set(b):
        a, b = b, a
    names = {"down": "A", "up": "B"} if {"A", "B"} <= set(b) and "down" in a else {}
    for role, (key, _) in a.items():
        other = b.get(names.get(role, role))
        if other is None or header.tensors[key][1] != header.tensors[other[0]][1]:
            if role == "alpha" and "alpha" not in b and "down" in a:
                rank = header.tensors[a["down"][0]][1][0]
                if float(read([key])) == rank:  # α = r is scale 1, which the other means
                    continue
            return False
        x, y = read([key]), read([other[0]])
        if float((x - y).norm()) > _SAME * float(x.norm()):
            return False
    return True


def _fused(groups: Groups) -> list[tuple[str, tuple[str, ...]]]:
    """Fused layers whose parts are in the file as well."""
    fused = []
    for name in groups.modules:
        match = _FUSED.match(name) if name.endswith(_FUSED_ENDS) else None
        if not match:
            continue
        stem = match[1] or ""
        for parts in _SPLIT:
            names = tuple(stem + part for part in parts)
            if all(n in groups.modules and form_of(tuple(groups.modules[n])) for n in names):
                fused.append((name, names))
                break
    return fused


def _update(roles: Roles, read: Read) -> tuple[Tensor, Tensor] | None:
    """U (n, r) and V (m, r) of a plain pair, with α; None for other forms."""
    for down, up in _PAIRS:
        if down in roles and up in roles:
            V, U = read([roles[down][0]])[0].flatten(1).T, read([roles[up][0]])[0].flatten(1)
            if U.shape[1] != V.shape[1]:
                return None
            if "alpha" in roles:
                U = U * (float(read([roles["alpha"][0]]).flatten()[0]) / U.shape[1])
            return U, V
    return None


def _is_stack(groups: Groups, fused: str, parts: Sequence[str], header: Header, read: Read) -> bool:
    """Whether the rows of a fused update are those of its parts, one below the other."""
    whole = _update(groups.modules[fused], read)
    pieces = [_update(groups.modules[part], read) for part in parts]
    if whole is None or any(piece is None for piece in pieces):
        return False
    U, V = whole
    row, apart, energy = 0, 0.0, 0.0
    for piece in pieces:
        u, v = piece  # type: ignore[misc]
        rows = U[row : row + len(u)]
        row += len(u)
        if len(rows) != len(u) or len(v) != len(V):
            return False
        both_u, both_v = torch.cat([rows, -u], 1).double(), torch.cat([V, v], 1).double()
        apart += float((both_u.T @ both_u * (both_v.T @ both_v)).sum())
        energy += float((u.double().T @ u.double() * (v.double().T @ v.double())).sum())
    return row == len(U) and apart <= _SAME**2 * energy
