"""Which form a module is stored in: by its roles, their shapes and the configuration."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import Tensor

from wsdemo.lora.factors import Factors
from wsdemo.lora.forms import blocks, dense, experts, pairs, products
from wsdemo.lora.settings import Settings

Stored = Mapping[str, tuple[str, tuple[int, ...]]]
"""Role → type and shape of a module's tensors."""


@dataclass(frozen=True, eq=False)
class Form:
    """One way to read a module.

    Attributes:
        needs: The roles that it needs.
        may: Those that it may have; if it needs none, it is enough to have one of them.
        factors: Role → (k, …) of k modules, to U (k, n, r) and V (k, m, r).
        is_stacked: Whether k may be more than 1.
        offset: What U Vᵀ is added to where it multiplies the weight.
    """

    needs: frozenset[str]
    may: frozenset[str]
    factors: Callable[[dict[str, Tensor]], Factors]
    is_stacked: bool
    offset: float = 0.0

    def fits(self, roles: Collection[str]) -> bool:
        """Whether a module with these roles can be read so."""
        return self.needs.issubset(roles) if self.needs else not self.may.isdisjoint(roles)

    @lru_cache(1024)  # noqa: B019  # forms live as long as the program, but for a few
    def unread(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """Those of these roles whose tensors are then not read."""
        read = self.needs | self.may
        return tuple(
            role
            for role in roles
            if role.removeprefix("scale of ") not in read
            and role not in ("alpha", "scale", "magnitude")
        )


def _form(factors: Callable[[dict[str, Tensor]], Factors], needs: str = "", may: str = "") -> Form:
    def of_one(parts: dict[str, Tensor]) -> Factors:
        single = factors({role: stack[0] for role, stack in parts.items()})
        return replace(single, U=single.U[None], V=single.V[None])

    return Form(frozenset(needs.split()), frozenset(may.split()), of_one, is_stacked=False)


def _stacked(factors: Callable[..., Factors], *needs: str, offset: float = 0.0) -> Form:
    def of_all(parts: dict[str, Tensor]) -> Factors:
        return factors(*(parts[role] for role in needs))

    return Form(frozenset(needs), frozenset(), of_all, is_stacked=True, offset=offset)


_SPLIT = _form(pairs.split, "down.0 up.0", " ".join(f"{x}.{i}" for x in ("down", "up")
                                                   for i in range(16)))  # fmt: skip
_FORMS = (
    _form(products.loha, may="hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 hada_t2"),
    _form(products.lokr, may="lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2"),
    _form(lambda p: pairs.tucker(p["down"], p["up"], p["mid"]), "down up mid"),
    _stacked(pairs.pairs, "down", "up"),
    _SPLIT,
    _form(lambda p: pairs.adalora(p["A"], p["B"], p["E"]), "A B E", "ranknum"),
    _stacked(pairs.kasa, "A", "B", "diag"),
    _stacked(pairs.pairs, "A", "B"),
    _stacked(pairs.embedding, "embedding_A", "embedding_B"),
    _stacked(pairs.mlx, "mlx_a", "mlx_b"),
    _stacked(pairs.pairs, "vit_a", "vit_b"),
    _stacked(pairs.pairs, "own_A", "own_B"),
    _stacked(pairs.pairs, "hira_A", "hira_B", offset=1.0),
    _stacked(pairs.embedding, "hira_embedding_A", "hira_embedding_B", offset=1.0),
    _form(blocks.gralora, "gralora_A gralora_B", "gralora_A_general gralora_B_general"),
    _form(lambda p: dense.c3a(p["c3a_kernel"]), "c3a_kernel"),
    _form(lambda p: dense.shira(p["shira_weight"], p["shira_indices"]),
          "shira_weight shira_indices"),
    _form(lambda p: dense.difference(p["diff"]), "diff"),
    _stacked(blocks.miss(0, 0), "miss_block"),
)  # fmt: skip
"""In order: a module that allows several is read by the first; its other tensors are ignored."""
_PAIR = next(form for form in _FORMS if form.needs == {"A", "B"})
_KOHYA = next(form for form in _FORMS if form.needs == {"down", "up"})
_MLX = next(form for form in _FORMS if form.needs == {"mlx_a", "mlx_b"})
_MISS = next(form for form in _FORMS if form.needs == {"miss_block"})
_MLX_EMBEDDING = _stacked(pairs.mlx_embedding, "mlx_a", "mlx_b")
_GGUF_EMBEDDING = _stacked(pairs.gguf_embedding, "A", "B")
_SEPARATE = _stacked(experts.separate, "A", "B")
_KOHYA_SEPARATE = _stacked(experts.separate, "down", "up")
_MLX_SEPARATE = _stacked(experts.separate, "mlx_a", "mlx_b")
_MLX_FLAT = _stacked(experts.flat, "mlx_a", "mlx_b")
_EMBEDDING_NAME = re.compile(r"(^|\.)(embed_tokens|wte|tok_embeddings|word_embeddings|embedding)$")
_FUSED_NAME = re.compile(r"(qkv|query_key_value|c_attn|in_proj|attn)$", re.IGNORECASE)
_EXPERTS_NAME = re.compile(r"(^|\.)experts(\.base_layer)*$")


@lru_cache(256)
def form_of(roles: tuple[str, ...]) -> Form | None:
    """A way to read a module with these roles, None if there is none."""
    return next((form for form in _FORMS if form.fits(roles)), None)


def choose(name: str, stored: Stored, settings: Settings) -> Form | str | None:
    """The way to read a module.

    Returns:
        The form; a text that says why it cannot be read as it is; or None if its roles make no
        pair.
    """
    form = form_of(tuple(stored))
    if form is _PAIR:
        return _of_pair(name, stored["A"][1], stored["B"][1], settings)
    if form is _MLX:
        a, b = stored["mlx_a"][1], stored["mlx_b"][1]
        if len(b) == 3 and len(a) in (2, 3):
            return _MLX_SEPARATE if len(a) == 3 else _MLX_FLAT
        return _MLX_EMBEDDING if _EMBEDDING_NAME.search(name) else _MLX
    if form is _MISS:
        sides = settings.columns.get(name)
        return _repeated(*sides) if sides else "its block repeats over inputs that are not known"
    if form is _KOHYA and _are_experts(stored["down"][1], stored["up"][1]):
        return _KOHYA_SEPARATE
    return form


def _are_experts(A: tuple[int, ...], B: tuple[int, ...]) -> bool:
    """(E, r, m) and (E, n, r), and no convolution's (r, in, kernel) and (out, r, 1)."""
    is_convolution = len(B) == 3 and B[2] == 1 and B[1] == A[0]
    return len(A) == len(B) == 3 and A[0] == B[0] and A[1] == B[2] and not is_convolution


def _of_pair(name: str, A: tuple[int, ...], B: tuple[int, ...], settings: Settings) -> Form | str:
    """Of A and B in PEFT's spelling, which many methods share."""
    if name == "token_embd":
        return _GGUF_EMBEDDING
    if _are_experts(A, B):
        return _SEPARATE
    if len(A) != 2:
        return _PAIR
    if settings.parameter(name) or _EXPERTS_NAME.search(name):
        r = int(settings.rank(settings.parameter(name) or name))
        if r < 1:
            return (
                "its experts share one pair, and the configuration that says their rank is missing"
            )
        if A[0] % r:
            return f"{A[0]} rows are no experts of rank {r}"
        return _experts(A[0] // r) if A[0] > r else _PAIR
    if settings.pooled:
        return _qalora(settings.pooled)
    side, count = settings.diagonal(name)
    if side:
        return _diagonal(side, count)
    return _merged(name, A, B, settings) or _PAIR


def _merged(name: str, A: tuple[int, ...], B: tuple[int, ...], settings: Settings) -> Form | None:
    """MergedLinear, where A has as many times the rank as the layer has enabled parts."""
    r = B[1] if len(B) > 1 else 0
    groups = A[0] // r if r and A[0] % r == 0 else 0
    if groups < 2 or any(side != 1 for side in B[2:]):
        return None
    enabled = settings.enabled
    if enabled and sum(enabled) == groups:
        return _grouped(enabled, "")
    if enabled or not _FUSED_NAME.search(name) or B[0] % groups:
        return None
    if groups == 3:
        return _grouped((True,) * 3, "")
    doubt = "which parts of the fused layer it adapts (enable_lora) is not in the file"
    return _grouped((True,) * groups, doubt)


@lru_cache(64)
def _repeated(n: int, m: int) -> Form:
    return _stacked(blocks.miss(n, m), "miss_block")


@lru_cache(64)
def _experts(count: int) -> Form:
    return _stacked(experts.stacked(count), "A", "B")


@lru_cache(64)
def _qalora(group: int) -> Form:
    return _stacked(blocks.qalora(group), "A", "B")


@lru_cache(64)
def _diagonal(side: str, count: int) -> Form:
    return _stacked(blocks.block_diagonal(side, count), "A", "B")


@lru_cache(64)
def _grouped(enabled: tuple[bool, ...], doubt: str) -> Form:
    return _stacked(blocks.merged(enabled, doubt), "A", "B")
