"""
The options of the fast path, and what of them this machine can do.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch as th
from torch import nn

from sb3_stable_ppo.common.checks import one_of, unknown
from sb3_stable_ppo.fast.compiling import why_compiling_fails, why_no_compile

MEMORY_FORMATS = ("contiguous", "channels_last")
PRECISIONS = ("fp32", "bf16", "auto")
log = logging.getLogger("sb3_stable_ppo.fast")


class Resolved(NamedTuple):
    """
    What the options come to on one device.

    :param bf16: whether convolutions and linear layers compute in bfloat16
    :param compiled: whether the layers are compiled
    """

    bf16: bool
    compiled: bool


@dataclass(frozen=True)
class FastPathConfig:
    """
    The options of the fast path, as they stand in ``policy_kwargs``.

    :param memory_format: ``contiguous``, or ``channels_last``, in which convolutions of images are faster
    :param precision: ``fp32``; ``bf16``: convolutions and linear layers of the extractor and the hidden layers compute
        in bfloat16, while losses, logits, the statistics of norms and the weights stay in fp32; or ``auto``: bf16 where
        the processor has instructions for it
    :param compile: True, False, or ``auto``: tried out where a C++ compiler is found, and kept where it is faster
    :raises ValueError: for an unknown word, listing the choices
    """

    memory_format: str = "contiguous"
    precision: str = "fp32"
    compile: bool | str = False

    def __post_init__(self) -> None:
        one_of(self.memory_format, MEMORY_FORMATS, "memory_format")
        one_of(self.precision, PRECISIONS, "precision")
        if not isinstance(self.compile, (bool, str)) or self.compile not in (True, False, "auto"):  # 1 is equal to True
            raise ValueError(unknown("compile", self.compile, ("true", "false", "auto")))

    @cached_property
    def is_plain(self) -> bool:
        """Whether all options have their defaults, with which a policy runs as SB3's own."""
        return self == FastPathConfig()

    @property
    def torch_memory_format(self) -> th.memory_format:
        """``memory_format`` as torch's constant."""
        return th.channels_last if self.memory_format == "channels_last" else th.contiguous_format

    def lay_out(self, module: nn.Module) -> None:
        """
        Store a module's convolution weights in the memory format. Their values and names stay as they are.

        :param module: with convolutions; all parameters of four dimensions are changed
        """
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=self.torch_memory_format)

    def resolve(self, device: th.device) -> Resolved:
        """
        What the options come to on a device. What the device cannot do is left out, so that a model that was trained
        on another machine can be used on this one.

        :param device: where the policy is
        """
        bf16 = self.precision != "fp32" and why_no_bf16(device) is None
        return Resolved(bf16, bool(self.compile) and why_no_compile(device) is None)

    def check(self, device: th.device) -> None:
        """
        Check the options against the device, and log what they come to. Called when training begins.

        :param device: where the policy is
        :raises ValueError: if ``bf16`` or ``compile=True`` is not available on the device; ``auto`` never fails
        """
        if self.precision == "bf16" and (why := why_no_bf16(device)):
            raise ValueError(f"precision: bf16 is not available on {device}: {why}. Choose fp32 or auto.")
        if self.compile is True and (why := why_no_compile(device) or why_compiling_fails(device)):
            raise ValueError(f"compile: true cannot be done here: {why}. Choose false or auto.")
        log.info("fast path: %s", self.describe(device))

    def describe(self, device: th.device) -> str:
        """
        What the options come to on a device, in words: ``channels_last, bf16, not compiled, on cpu``.

        :param device: where the policy is
        """
        resolved = self.resolve(device)
        precision = "bf16" if resolved.bf16 else "fp32"
        compiled = "compiled" if resolved.compiled else "not compiled"
        if resolved.compiled and self.compile == "auto":
            compiled = "compiled where that is faster"  # which the first update shows
        return f"{self.memory_format}, {precision}, {compiled}, on {device}"


def why_no_bf16(device: th.device) -> str | None:
    """
    Why bfloat16 would be slow on a device, which then emulates it, or None.

    :param device: where the policy is
    """
    if device.type == "cuda":
        return None if th.cuda.is_bf16_supported(including_emulation=False) else "this GPU has no bfloat16 units"
    if device.type != "cpu":
        return f"whether it is faster on {device.type} is not known"
    has = th.cpu.get_capabilities()
    return None if has.get("avx512_bf16") or has.get("amx_bf16") else "this processor has neither AVX-512-BF16 nor AMX"
