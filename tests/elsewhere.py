"""A device that is not there, to see without a GPU that what runs on one would run: nothing meets what is still on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # of those that torch knows, the one that asks for no driver
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index.Tensor}


class Elsewhere(Tensor):
    """A tensor that says it is on the device and keeps its numbers on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor):
        how = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype, "device": DEVICE}
        return Tensor._make_wrapper_subclass(cls, held.shape, **how)

    def __init__(self, held: Tensor):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, kernel, types, args=(), kwargs=None):
        return run(kernel, args, kwargs or {})


class Kernels(TorchDispatchMode):
    """Every kernel, those that make tensors too."""

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        return run(kernel, args, kwargs or {})


class Calls(TorchFunctionMode):
    """What Python's side of torch would ask the device for: tensors made of lists."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.tensor:
            made, device = function(*args, **kwargs | {"device": None}), kwargs.get("device")
            return made if device is None else made.to(device)
        if function is Tensor.new_tensor:
            like, numbers = args
            return torch.tensor(numbers, **{"dtype": like.dtype} | kwargs).to(like.device)
        if function is Tensor.tolist:
            return args[0].cpu().tolist()
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[1], list):
            args = args[0], torch.tensor(args[1]), *args[2:]
        return function(*args, **kwargs)


def run(kernel, args, kwargs):
    """What the kernel makes of the numbers, on the device of its arguments.

    Raises:
        RuntimeError: tensors of both devices meet; single numbers, and rows by which tensors of the device are indexed, may be on the CPU.
    """
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in given if isinstance(x, Elsewhere)]
    here = [x for x in given if not isinstance(x, Elsewhere) and x.dim()]
    if any(x.device == DEVICE for x in here):
        raise RuntimeError(f"{kernel}: a tensor without numbers, made where this device is not known of")
    if kernel in INDEXED and isinstance(args[0], Elsewhere):
        here = [x for x in tree_leaves(args[2:]) if isinstance(x, Tensor) and not isinstance(x, Elsewhere) and x.dim()]
    if there and here and kernel not in COPIES:
        raise RuntimeError(f"{kernel}: on the CPU {[tuple(x.shape) for x in here]}, on the device {[tuple(x.shape) for x in there]}")
    to = kwargs.get("device")
    if kernel is aten.copy_.default:
        on_device = isinstance(args[0], Elsewhere)
    elif to is None:
        on_device = bool(there)
    else:
        on_device = torch.device(to) == DEVICE
    if to is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = kernel(*tree_map(held, args), **tree_map(held, kwargs))
    if there and isinstance(args[0], Elsewhere) and made is args[0].held:  # in place
        if made.shape != args[0].shape:
            with torch._C._DisableTorchDispatch():
                kernel(*args, **kwargs)
        return args[0]
    return tree_map(lambda x: Elsewhere(x) if on_device and isinstance(x, Tensor) else x, made)


def held(x):
    """The numbers on the CPU, if it is a tensor of the device."""
    return x.held if isinstance(x, Elsewhere) else x


@contextmanager
def device() -> Iterator[torch.device]:
    """The device, while it is there. What is moved to it must not outlive it."""
    autocast, overwrite = torch.autocast, torch.__future__.get_overwrite_module_params_on_conversion()
    other = lambda kind, *rest, **how: nullcontext() if kind == DEVICE.type else autocast(kind, *rest, **how)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Calls(), Kernels(), patch("torch.autocast", other):
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
