"""
``torch.compile``: whether it can work here, one compiled function for each policy, and which errors are its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

import torch as th

Result = TypeVar("Result")
Layers = Callable[[th.Tensor], Result]


def why_no_compile(device: th.device) -> str | None:
    """
    Why ``torch.compile`` cannot work here, or None. Code for the CPU needs the C++ compiler that torch looks for.

    :param device: where the policy is
    """
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton is not installed"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(compiler) else f"no C++ compiler ({compiler}) is installed"


def why_compiling_fails(device: th.device) -> str | None:
    """
    The first line of the error that ``torch.compile`` raises for a sum of two numbers, or None if it works.

    :param device: where the policy is
    """
    try:
        th.compile(th.add)(th.ones(2, device=device), th.ones(2, device=device))
    except Exception as error:
        return first_line(error)
    return None


def compile_layers(layers: Layers[Result], device: th.device) -> Layers[Result]:
    """
    Compile a function for one policy. It is compiled when it is first called, and again for each new shape.

    torch keeps what it has compiled, and counts how often, for each code object in the process
    (``torch._dynamo.config.recompile_limit``). Policies that share a method share its code object, and all but the
    first few would run uncompiled. So each policy gets a code object of its own.

    :param layers: takes a tensor and returns one or several
    :param device: where the policy is
    """

    def call(inputs: th.Tensor) -> Result:
        return layers(inputs)

    own = FunctionType(call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__)
    # CUDA graphs replay all kernels of the layers with one launch
    mode = "reduce-overhead" if device.type == "cuda" else None
    return th.compile(own, dynamic=False, mode=mode)


def is_compile_failure(error: Exception) -> bool:
    """
    Whether an error of a compiled call comes from ``torch.compile``: from its own classes, or from files that it could
    not write and programs that it could not run, since layers use neither files nor programs.

    :param error: that calling a compiled function has raised
    """
    if isinstance(error, (OSError, subprocess.SubprocessError)):
        return True
    from torch._dynamo.exc import TorchDynamoException  # slow to import; where something was compiled, it is there

    return isinstance(error, TorchDynamoException)


def first_line(error: BaseException) -> str:
    """
    The first line of an error's text; torch adds paragraphs of advice.

    :param error: any
    """
    return str(error).strip().partition("\n")[0]


def is_traced() -> bool:
    """Whether ``torch.jit.trace`` or ``torch.export`` exports a model now: with the layers as they are, in fp32."""
    return bool(th.jit.is_tracing() or th.compiler.is_exporting())  # type: ignore[attr-defined, no-untyped-call]
