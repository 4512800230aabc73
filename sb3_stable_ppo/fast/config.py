"""
The options of the fast path, and what of them this machine can do.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_stable_ppo.common.checks import one_of, unknown

MEMORY_FORMATS = ("contiguous", "channels_last")
PRECISIONS = ("fp32", "bf16", "auto")
log = logging.getLogger("sb3_stable_ppo.fast")


class Resolved(NamedTuple):
    """What a device gets: bfloat16 or not, compiled or not."""

    bf16: bool
    compiled: bool


@dataclass(frozen=True)
class FastPathConfig:
    """
    The words of the fast path, as they stand in ``policy_kwargs``.

    :param memory_format: ``contiguous`` or ``channels_last``, in which convolutions of images are faster
    :param precision: ``fp32``; ``bf16`` for convolutions and linear layers of the body (losses, logits, norms'
        statistics and weights stay in fp32); or ``auto``: bf16 where the processor has instructions for it
    :param compile: True, False, or ``auto``: where a C++ compiler is found
    :raises ValueError: for an unknown word, listing the choices
    """

    memory_format: str = "contiguous"
    precision: str = "fp32"
    compile: bool | str = False

    def __post_init__(self) -> None:
        one_of(self.memory_format, MEMORY_FORMATS, "memory_format")
        one_of(self.precision, PRECISIONS, "precision")
        if self.compile not in (True, False, "auto"):
            raise ValueError(unknown("compile", self.compile, ("true", "false", "auto")))

    @property
    def is_plain(self) -> bool:
        """Whether nothing differs from SB3's own way."""
        return self == FastPathConfig()

    @property
    def torch_memory_format(self) -> th.memory_format:
        """As torch calls it."""
        return th.channels_last if self.memory_format == "channels_last" else th.contiguous_format

    def lay_out(self, module: nn.Module) -> None:
        """
        Put a module's convolution weights into the memory format; their values and names stay.

        :param module: with weights of four dimensions
        """
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.torch_memory_format)

    def resolve(self, device: th.device) -> Resolved:
        """
        What this device gets. What it cannot do is left out, so that a model trained elsewhere can be used anywhere.

        :param device: where the policy is
        """
        bf16 = self.precision != "fp32" and why_no_bf16(device) is None
        return Resolved(bf16, bool(self.compile) and why_no_compile(device) is None)

    def check(self, device: th.device) -> None:
        """
        Called when training begins; what was picked is logged.

        :param device: where the policy is
        :raises ValueError: if what was asked for by name is not to be had here; ``auto`` never fails
        """
        if self.precision == "bf16" and (why := why_no_bf16(device)):
            raise ValueError(f"precision: bf16 is not to be had on {device}: {why}. Choose fp32 or auto.")
        if self.compile is True and (why := why_no_compile(device) or why_compiling_fails(device)):
            raise ValueError(f"compile: true cannot be done here: {why}. Choose false or auto.")
        log.info("fast path: %s", self.describe(device))

    def describe(self, device: th.device) -> str:
        """
        What this device gets, in words.

        :param device: where the policy is
        """
        resolved = self.resolve(device)
        words = (
            self.memory_format,
            "bf16" if resolved.bf16 else "fp32",
            "compiled" if resolved.compiled else "not compiled",
        )
        return f"{', '.join(words)}, on {device}"


def why_no_bf16(device: th.device) -> str | None:
    """
    Why bfloat16 would be slow here (it is emulated then), or None.

    :param device: where the policy is
    """
    if device.type == "cuda":
        return None if th.cuda.is_bf16_supported(including_emulation=False) else "this GPU has no bfloat16 units"
    if device.type != "cpu":
        return f"no figures are known for {device.type}"
    has = th.cpu.get_capabilities()
    return None if has.get("avx512_bf16") or has.get("amx_bf16") else "this processor has neither AVX-512-BF16 nor AMX"


def why_no_compile(device: th.device) -> str | None:
    """
    Why ``torch.compile`` cannot work here, or None: for a processor it needs the very compiler that torch looks for.

    :param device: where the policy is
    """
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton is not installed"
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(compiler) else f"no C++ compiler ({compiler}) is installed"


def why_compiling_fails(device: th.device) -> str | None:
    """
    The first line of what ``torch.compile`` says of a sum of two numbers, or None if it works.

    :param device: where the policy is
    """
    try:
        th.compile(th.add)(th.ones(2, device=device), th.ones(2, device=device))
    except Exception as error:
        return str(error).strip().partition("\n")[0]
    return None
