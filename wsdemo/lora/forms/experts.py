"""Experts of a mixture that are stored together: one U Vᵀ for each of them."""

from collections.abc import Callable

from torch import Tensor

from wsdemo.lora.factors import Factors, require, sides


def stacked(experts: int) -> Callable[[Tensor, Tensor], Factors]:
    """PEFT's ``target_parameters``: A is sorted by experts, B by ranks.

    Returns:
        A (k, E·r, m), B (k, n, r·E) →
        ΔW[e] = B.reshape(n, r, E)[:, :, e] · A.reshape(E, r, m)[e].
    """

    def factors(A: Tensor, B: Tensor) -> Factors:
        require(A.dim() == B.dim() == 3 and A.shape[1] == B.shape[2], sides(A[0], B[0]))
        r = A.shape[1] // experts
        require(r * experts == A.shape[1], f"{A.shape[1]} rows are no {experts} experts")
        V = A.view(len(A), experts, r, -1).mT.flatten(0, 1)
        U = B.view(*B.shape[:2], r, experts).permute(0, 3, 1, 2).flatten(0, 1)
        return _experts(U, V, experts)

    return factors


def separate(A: Tensor, B: Tensor) -> Factors:
    """One pair for each expert: A (k, E, r, m), B (k, E, n, r)."""
    require(A.dim() == B.dim() == 4, sides(A[0], B[0]))
    require(A.shape[1] == B.shape[1] and A.shape[2] == B.shape[3], sides(A[0], B[0]))
    return _experts(B.flatten(0, 1), A.mT.flatten(0, 1), A.shape[1])


def flat(A: Tensor, B: Tensor) -> Factors:
    """MLX's first: A (k, E·r, m), sorted by experts, with B (k, E, n, r)."""
    experts, r = B.shape[1], B.shape[3]
    require(A.dim() == 3 and A.shape[1] == experts * r, sides(A[0], B[0]))
    return separate(A.view(len(A), experts, r, -1), B)


def _experts(U: Tensor, V: Tensor, experts: int) -> Factors:
    shape = (U.shape[1], V.shape[1])
    return Factors(U, V, U.shape[2], shape, f"one of {experts} experts", pieces=experts)
