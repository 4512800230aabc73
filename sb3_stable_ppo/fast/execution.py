"""
The same mathematics, faster: memory format, bfloat16 and ``torch.compile`` for the heavy part of a policy.

A :class:`FastModule` runs its layers through a :class:`FastPath`. Where a hook is registered (by a probe, by the
calibration of BatchNorm or by a user), the layers run one by one, so that each hook is called.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch as th
from torch import nn
from typing_extensions import Self  # torch depends on it; typing has it from 3.11 on

from sb3_stable_ppo.fast.compile_trial import CompileTrial
from sb3_stable_ppo.fast.compiling import Layers, compile_layers, first_line, is_compile_failure
from sb3_stable_ppo.fast.config import FastPathConfig, Resolved, log
from sb3_stable_ppo.fast.hooks import Hooks
from sb3_stable_ppo.fast.weight_cache import CachedCasts

MAX_SHAPES = 8
"""So many shapes are compiled for; further ones, such as a truncated last minibatch of yet another size, run eager."""


class FastModule(nn.Module):
    """
    A module whose layers can run on the fast path. Subclasses define :meth:`run_layers`, and call
    :meth:`use_fast_path` when all their layers are there.
    """

    _fast_path: FastPath | None = None

    def use_fast_path(self, config: FastPathConfig) -> None:
        """
        Run the layers as ``config`` says from now on.

        :param config: where nothing in it differs from the defaults, the layers run as any module's
        """
        self._fast_path = None if config.is_plain else FastPath(self, config)

    def run_layers(self, inputs: th.Tensor) -> th.Tensor:
        """
        Call the layers one by one, so that the hooks of each are called.

        :param inputs: as ``forward`` gets them
        """
        raise NotImplementedError

    def run_fused_layers(self, inputs: th.Tensor) -> th.Tensor:
        """
        Compute the same with fewer passes over the data; by default, the layers one by one.

        :param inputs: as ``forward`` gets them
        """
        return self.run_layers(inputs)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: for the first layer
        :return: of the last layer, in fp32
        """
        return self.run_layers(inputs) if self._fast_path is None else self._fast_path(inputs)

    def train(self, mode: bool = True) -> Self:
        """``nn.Module.train``. Rollouts and updates begin with it, so weights are cast to bfloat16 anew after it."""
        if self._fast_path is not None:
            self._fast_path.forget_weights()
        return super().train(mode)


class FastPath:
    """
    Runs a module's layers as :class:`FastPathConfig` says.

    It holds its module and no methods of it, so that it is pickled and copied along with the module. What was compiled
    stays behind: the copy compiles anew.

    :param module: whose layers they are; its weights stay where and what they are
    :param config: how the layers run
    """

    def __init__(self, module: FastModule, config: FastPathConfig) -> None:
        self.module, self.config = module, config
        self._hooks = Hooks(module.modules())
        self._casts = CachedCasts(module)
        self._resolved: tuple[th.device, Resolved] | None = None
        self._compiled: Layers | None = None
        self._shapes: set[Any] = set()
        self.trial: CompileTrial | None = None
        """Of the policy, with ``compile: auto``; None: whatever can be compiled is."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_resolved": None, "_compiled": None, "_shapes": set()}

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: as the module's ``forward`` gets them
        :return: in fp32
        :raises torch._dynamo.exc.TorchDynamoException: if ``compile`` is True and compiling fails
        """
        device = inputs.device
        if self._resolved is None or self._resolved[0] != device:
            self._resolved = (device, self.config.resolve(device))
        resolved = self._resolved[1]
        with _precision(device, resolved):
            if self.has_hooks():
                return self._run_eagerly(self.module.run_layers, inputs, resolved)
            fused = self.module.run_fused_layers
            is_tried_out = self.trial is not None and not self.trial.compiles and th.is_grad_enabled()
            if not resolved.compiled or is_tried_out or not self._is_worth_compiling(inputs):
                return self._run_eagerly(fused, inputs, resolved)
            try:
                return self._run_compiled(inputs)
            except Exception as error:
                if not is_compile_failure(error):
                    raise
                outputs = self._run_eagerly(fused, inputs, resolved)  # where the layers are at fault, this raises
                if self.config.compile is True:
                    raise
                log.warning("compile: auto goes on without compiling: %s", first_line(error))
                self._resolved = (device, resolved._replace(compiled=False))
                if self.trial is not None:
                    self.trial.end(False)
                return outputs

    def _is_worth_compiling(self, inputs: th.Tensor) -> bool:
        if inputs.device.type == "cpu" and not th.is_grad_enabled():
            return False  # on a CPU, a compiled call costs more than the few observations of a step take
        shape = (inputs.shape, inputs.dtype, self.module.training, th.is_grad_enabled())
        if shape not in self._shapes and len(self._shapes) >= MAX_SHAPES:
            return False
        self._shapes.add(shape)
        return True

    def _run_compiled(self, inputs: th.Tensor) -> th.Tensor:
        if self._compiled is None:
            self._compiled = compile_layers(self.module.run_fused_layers, inputs.device)
        outputs = self._compiled(inputs)
        in_fp32 = outputs.float()
        # A CUDA graph writes its result to the same memory on each replay
        is_replayed = in_fp32 is outputs and inputs.device.type == "cuda"
        return in_fp32.clone() if is_replayed else in_fp32

    def _run_eagerly(self, layers: Layers, inputs: th.Tensor, resolved: Resolved) -> th.Tensor:
        cached = resolved.bf16 and not th.is_grad_enabled()
        with self._casts.swapped_in() if cached else nullcontext():
            return layers(inputs).float()

    def forget_weights(self) -> None:
        """Cast the weights to bfloat16 anew: they may have been changed in ways that torch does not count."""
        self._casts.forget()

    def has_hooks(self) -> bool:
        """Whether any module within, or all modules there are, have a hook, which fused code would not call."""
        return bool(self._hooks)


def _precision(device: th.device, resolved: Resolved) -> AbstractContextManager[Any]:
    return th.autocast(device.type, th.bfloat16) if resolved.bf16 else nullcontext()
