"""PyTorch in f16 arithmetic without f16's range: the baseline of graphs that keep large values in f32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class RoundedToHalf(TorchDispatchMode):
    """While active, every f32 result is rounded to the nearest f16 value; what f16 cannot hold stays as it is.

    Views and results written into an argument are left alone: their values were rounded when they were made.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the base class says no types

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in args if isinstance(tensor, torch.Tensor)}
        return torch.utils._pytree.tree_map_only(torch.Tensor, lambda tensor: _rounded(tensor, given), result)


def _rounded(tensor: torch.Tensor, given: set[int]) -> torch.Tensor:
    if tensor.dtype != torch.float32 or tensor.untyped_storage().data_ptr() in given:
        return tensor
    half = tensor.half().float()
    return torch.where(half.isfinite(), half, tensor)
