"""
The same mathematics, faster: memory format, bfloat16 and ``torch.compile`` for the heavy part of a policy.

A module that takes part calls its layers through :class:`FastPath`. Where anyone listens (hooks of a probe, of the
calibration or of a user) the plain layers run one by one, so that nobody is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch as th
from torch import nn
from torch.nn.modules import module as hooks

from sb3_stable_ppo.fast.config import FastPathConfig, Resolved, log
from sb3_stable_ppo.fast.weight_cache import CachedCasts

MAX_SHAPES = 8
"""So many shapes are compiled for; further ones, such as a truncated last minibatch of yet another size, run eager."""

GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")

Layers = Callable[[th.Tensor], th.Tensor]


class FastPath:
    """
    Runs a module's layers as :class:`FastPathConfig` says.

    :param module: whose layers they are; its weights stay where and what they are
    :param plain: takes the module's input and calls its layers one by one
    :param fast: does the same in fewer passes
    :param speed: the words
    """

    def __init__(self, module: nn.Module, plain: Layers, fast: Layers, speed: FastPathConfig) -> None:
        self.module, self.plain, self.fast, self.speed = module, plain, fast, speed
        self._within = list(module.modules())
        self._compiled: Layers | None = None
        self._shapes: set[Any] = set()
        self._resolved: tuple[th.device, Resolved] | None = None
        self._casts = CachedCasts(module)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None, "_shapes": set(), "_picked": None}

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: as the module's ``forward`` gets them
        :return: in fp32
        """
        if self._resolved is None or self._resolved[0] != inputs.device:
            self._resolved = (inputs.device, self.speed.resolve(inputs.device))
        resolved = self._resolved[1]
        with self._precision(inputs.device, resolved):
            layers = self._layers(inputs, resolved)
            acts = not th.is_grad_enabled()
            if layers is not self._compiled and resolved.bf16 and acts:
                with self._casts.swapped_in():
                    return layers(inputs).float()
            try:
                if layers is self._compiled and acts:  # on a GPU, as on a CPU acting is not compiled
                    return layers(inputs).float().clone()  # the next replay writes where this one's result lies
                return layers(inputs).float()
            except Exception as error:
                if layers is not self._compiled or self.speed.compile is True:
                    raise
                log.warning("compile: auto goes on without: %s", str(error).partition("\n")[0])
                self._resolved = (inputs.device, resolved._replace(compiled=False))
                return self.fast(inputs).float()

    def _layers(self, inputs: th.Tensor, resolved: Resolved) -> Layers:
        if self.is_listened_to():
            return self.plain
        if not resolved.compiled or (inputs.device.type == "cpu" and not th.is_grad_enabled()):
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
    def _precision(device: th.device, resolved: Resolved) -> AbstractContextManager[Any]:
        return th.autocast(device.type, th.bfloat16) if resolved.bf16 else nullcontext()
