"""
The same mathematics, faster: memory format, bfloat16 and ``torch.compile`` for the heavy part of a policy.

A :class:`FastModule` runs its layers through a :class:`FastPath`. Where a hook is registered (by a probe, by the
calibration of BatchNorm or by a user), the layers run one by one, so that each hook is called.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch as th
from torch import nn
from typing_extensions import Self  # torch depends on it; typing has it from 3.11 on

from sb3_stable_ppo.fast.compiled_calls import CompiledCalls, own_result
from sb3_stable_ppo.fast.compiling import Layers, first_line, is_compile_failure, is_traced
from sb3_stable_ppo.fast.config import FastPathConfig, Resolved, log
from sb3_stable_ppo.fast.hooks import Hooks
from sb3_stable_ppo.fast.weight_cache import CachedCasts


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
        return self.run_layers(inputs) if self._fast_path is None or is_traced() else self._fast_path(inputs)

    def train(self, mode: bool = True) -> Self:
        """``nn.Module.train``. Rollouts and updates begin with it, so weights are cast to bfloat16 anew after it."""
        if self._fast_path is not None:
            self._fast_path.forget_weights()
        return super().train(mode)


class Ahead(NamedTuple):
    """
    What a module is going to be asked for, computed already.

    :param inputs: for which it was computed
    :param version: torch's count of their in-place changes at that time
    :param outputs: of the module
    """

    inputs: th.Tensor
    version: int | None
    outputs: th.Tensor

    @classmethod
    def of(cls, inputs: th.Tensor, outputs: th.Tensor) -> Ahead:
        """
        :param inputs: as they were when ``outputs`` was computed
        :param outputs: of the module
        """
        return cls(inputs, _version_of(inputs), outputs)

    def is_for(self, inputs: th.Tensor) -> bool:
        """
        :param inputs: that the module is given
        :return: whether they are that very tensor, unchanged
        """
        return inputs is self.inputs and _version_of(inputs) == self.version


def _version_of(tensor: th.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


class FastPath(CompiledCalls):
    """
    Runs a module's layers as :class:`FastPathConfig` says.

    It holds its module and no methods of it, so that it is pickled and copied along with the module.

    :param module: whose layers they are; its weights stay where and what they are
    :param config: how the layers run
    """

    ahead: Ahead | None = None
    """Set by a :class:`~sb3_stable_ppo.fast.region.Region`."""

    def __init__(self, module: FastModule, config: FastPathConfig) -> None:
        super().__init__(config)
        self.module = module
        self._hooks = Hooks(module.modules())
        self._casts = CachedCasts(module)

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: as the module's ``forward`` gets them
        :return: in fp32
        :raises torch._dynamo.exc.TorchDynamoException: if ``compile`` is True and compiling fails
        """
        if self.ahead is not None and self.ahead.is_for(inputs):
            return self.ahead.outputs
        device, fused = inputs.device, self.module.run_fused_layers
        resolved = self._resolved_on(device)
        with precision(device, resolved):
            if self.has_hooks():
                return self._run_eagerly(self.module.run_layers, inputs, resolved)
            if not self._is_to_compile(inputs) or not self._is_known_shape(inputs, self.module.training):
                return self._run_eagerly(fused, inputs, resolved)
            try:
                return own_result(self._call_compiled(fused, inputs))
            except Exception as error:
                if not is_compile_failure(error):
                    raise
                outputs = self._run_eagerly(fused, inputs, resolved)  # where the layers are at fault, this raises
                if self.config.compile is True:
                    raise
                log.warning("compile: auto goes on without compiling: %s", first_line(error))
                self._stop_compiling(device)
                if self.trial is not None:
                    self.trial.end(False)
                return outputs

    def _run_eagerly(self, layers: Layers[th.Tensor], inputs: th.Tensor, resolved: Resolved) -> th.Tensor:
        cached = resolved.bf16 and not th.is_grad_enabled()
        with self._casts.swapped_in() if cached else nullcontext():
            return layers(inputs).float()

    def forget_weights(self) -> None:
        """Cast the weights to bfloat16 anew: they may have been changed in ways that torch does not count."""
        self._casts.forget()

    def has_hooks(self) -> bool:
        """Whether any module within, or all modules there are, have a hook, which fused code would not call."""
        return bool(self._hooks)


def precision(device: th.device, resolved: Resolved) -> AbstractContextManager[Any]:
    """
    :param device: where layers run
    :param resolved: what the options come to there
    :return: a context in which they compute in bfloat16, if they are to
    """
    return th.autocast(device.type, th.bfloat16) if resolved.bf16 else nullcontext()
