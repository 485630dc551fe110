"""A device that is none: tensors that lie in the CPU's memory and say that they lie elsewhere, and refuse what a GPU's would refuse.

Code that runs on it has named the device wherever it must: operations that mix devices raise, and so does a view as a NumPy array. What
torch allows a GPU is allowed: numbers from the CPU (tensors of no dimension), indices from the CPU, copies. It shows nothing of
precision, memory or speed.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

KIND = "away"
aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten.index_put.default}


class AwayTensor(torch.Tensor):
    """A tensor said to be on that device; `here` is the one that it is."""

    here: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "AwayTensor":
        kept = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype, "layout": here.layout}
        made = torch.Tensor._make_wrapper_subclass(cls, here.shape, device=_away(), **kept)
        made.here = here
        return made

    def __repr__(self) -> str:
        return f"away: {self.here}"

    def tolist(self) -> Any:
        """As a tensor's, which torch refuses to subclasses."""
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(func, args, kwargs or {})


class _Pretence(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return _called(func, args, kwargs or {})


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """The device, which exists inside the block."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Pretence(), patch.object(torch, "as_tensor", _made(torch.as_tensor)), patch.object(torch, "tensor", _made(torch.tensor)):
            yield _away()
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _made(plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """torch.tensor or torch.as_tensor, which look past a wrapped tensor and make what is given to a device by themselves."""

    def make(data: Any, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> torch.Tensor:
        if isinstance(data, AwayTensor):
            return data.to(device=device, dtype=dtype)
        return plain(data, dtype=dtype).to(device or "cpu")

    return make


@functools.cache
def _away() -> torch.device:
    """The device, made known to torch in this process."""
    _setup_privateuseone_for_python_backend(KIND)
    return torch.device(KIND, 0)


def _called(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    wanted = kwargs.get("device")
    tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, torch.Tensor)]
    away = any(isinstance(part, AwayTensor) for part in tensors)
    if away and func not in (aten.copy_.default, aten._to_copy.default):
        _refuse_mixtures(func, args, tensors)
    if wanted is not None and torch.device(wanted).type == KIND:
        kwargs, there = {**kwargs, "device": torch.device("cpu")}, True
    else:
        there = away and wanted is None
    if func is aten.copy_.default:
        there = isinstance(args[0], AwayTensor)
    known = {id(part.here): part for part in tensors if isinstance(part, AwayTensor)}
    found = func(*tree_map(_brought, args), **tree_map(_brought, kwargs))
    return tree_map(lambda part: known[id(part)] if id(part) in known else _sent(part), found) if there else found


def _brought(part: Any) -> Any:
    return part.here if isinstance(part, AwayTensor) else part


def _sent(part: Any) -> Any:
    return AwayTensor(part.resolve_conj().resolve_neg()) if isinstance(part, torch.Tensor) else part


def _refuse_mixtures(func: Callable[..., Any], args: Any, tensors: list[torch.Tensor]) -> None:
    here = [part for part in tensors if not isinstance(part, AwayTensor) and part.dim()]
    if func in INDEXED and isinstance(args[0], AwayTensor):
        places = [part for part in args[1] if part is not None]
        here = [part for part in here if not any(part is place for place in places)]
    if here:
        raise RuntimeError(f"{func}: tensors on {KIND} and on the CPU, of shapes {[tuple(part.shape) for part in tensors]}")
