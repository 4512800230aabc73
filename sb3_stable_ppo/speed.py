"""
The same mathematics, faster: memory format, bfloat16 and ``torch.compile`` for the heavy part of a policy.

A module that takes part calls its layers through :class:`FastPath`. Where anyone listens (hooks of a probe, of the
calibration or of a user) the plain layers run one by one, so that nobody is passed over.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch as th
from torch import nn
from torch.nn.modules import module as hooks

from sb3_stable_ppo.cached_casts import CachedCasts

MEMORY_FORMATS = ("contiguous", "channels_last")
PRECISIONS = ("fp32", "bf16", "auto")
MAX_SHAPES = 8
"""So many shapes are compiled for; further ones, such as a truncated last minibatch of yet another size, run eager."""

GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")

Layers = Callable[[th.Tensor], th.Tensor]
log = logging.getLogger(__name__)


class Picked(NamedTuple):
    """What a device gets: bfloat16 or not, compiled or not."""

    bf16: bool
    compiled: bool


@dataclass(frozen=True)
class Speed:
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
        if self.memory_format not in MEMORY_FORMATS:
            raise ValueError(
                f"Unknown memory_format {self.memory_format!r}: choose one of {', '.join(MEMORY_FORMATS)}."
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"Unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}.")
        if self.compile not in (True, False, "auto"):
            raise ValueError(f"Unknown compile {self.compile!r}: choose one of true, false, auto.")

    @property
    def is_plain(self) -> bool:
        """Whether nothing differs from SB3's own way."""
        return self == Speed()

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

    def pick(self, device: th.device) -> Picked:
        """
        What this device gets. What it cannot do is left out, so that a model trained elsewhere can be used anywhere.

        :param device: where the policy is
        """
        bf16 = self.precision != "fp32" and why_no_bf16(device) is None
        return Picked(bf16, bool(self.compile) and why_no_compile(device) is None)

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
        picked = self.pick(device)
        words = self.memory_format, "bf16" if picked.bf16 else "fp32", "compiled" if picked.compiled else "not compiled"
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


class FastPath:
    """
    Runs a module's layers as :class:`Speed` says.

    :param module: whose layers they are; its weights stay where and what they are
    :param plain: takes the module's input and calls its layers one by one
    :param fast: does the same in fewer passes
    :param speed: the words
    """

    def __init__(self, module: nn.Module, plain: Layers, fast: Layers, speed: Speed) -> None:
        self.module, self.plain, self.fast, self.speed = module, plain, fast, speed
        self._within = list(module.modules())
        self._compiled: Layers | None = None
        self._shapes: set[Any] = set()
        self._picked: tuple[th.device, Picked] | None = None
        self._casts = CachedCasts(module)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None, "_shapes": set(), "_picked": None}

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: as the module's ``forward`` gets them
        :return: in fp32
        """
        if self._picked is None or self._picked[0] != inputs.device:
            self._picked = (inputs.device, self.speed.pick(inputs.device))
        picked = self._picked[1]
        with self._precision(inputs.device, picked):
            layers = self._layers(inputs, picked)
            acts = not th.is_grad_enabled()
            if layers is not self._compiled and picked.bf16 and acts:
                with self._casts.worn():
                    return layers(inputs).float()
            try:
                if layers is self._compiled and acts:  # on a GPU, as on a CPU acting is not compiled
                    return layers(inputs).float().clone()  # the next replay writes where this one's result lies
                return layers(inputs).float()
            except Exception as error:
                if layers is not self._compiled or self.speed.compile is True:
                    raise
                log.warning("compile: auto goes on without: %s", str(error).partition("\n")[0])
                self._picked = (inputs.device, picked._replace(compiled=False))
                return self.fast(inputs).float()

    def _layers(self, inputs: th.Tensor, picked: Picked) -> Layers:
        if self.is_listened_to():
            return self.plain
        if not picked.compiled or (inputs.device.type == "cpu" and not th.is_grad_enabled()):
            return self.fast  # what little an observation to act on takes is less than a compiled call's own cost
        shape = (inputs.shape, inputs.dtype, self.module.training, th.is_grad_enabled())
        if shape not in self._shapes:
            if len(self._shapes) >= MAX_SHAPES:
                return self.fast
            self._shapes.add(shape)
        if self._compiled is None:
            mode = "reduce-overhead" if inputs.device.type == "cuda" else None  # CUDA graphs: one launch for all layers
            self._compiled = th.compile(self.fast, dynamic=False, mode=mode)
        return self._compiled

    def forget(self) -> None:
        """Cast weights anew: they may have been changed in ways that torch does not count."""
        self._casts.forget()

    def is_listened_to(self) -> bool:
        """Whether any module within, or all modules there are, have a hook, which fused code would pass over."""
        return any(getattr(hooks, name) for name in GLOBAL_HOOKS) or any(
            child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks
            for child in self._within
        )

    @staticmethod
    def _precision(device: th.device, picked: Picked) -> AbstractContextManager[Any]:
        return th.autocast(device.type, th.bfloat16) if picked.bf16 else nullcontext()
