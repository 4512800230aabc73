"""
Which calls run compiled, of one module or of several as one, and what they return.
"""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_stable_ppo.fast.compile_trial import CompileTrial
from sb3_stable_ppo.fast.compiling import Layers, compile_layers
from sb3_stable_ppo.fast.config import FastPathConfig, Resolved

MAX_SHAPES = 8
"""So many shapes are compiled for; further ones, such as a truncated last minibatch of yet another size, run eager."""


class CompiledCalls:
    """
    Something that runs compiled where that is worth it. It can be copied and pickled. What was compiled stays behind:
    the copy compiles anew.

    :param config: how it runs
    """

    def __init__(self, config: FastPathConfig) -> None:
        self.config = config
        self._resolved: tuple[th.device, Resolved] | None = None
        self._compiled: Layers[Any] | None = None
        self._shapes: set[Any] = set()
        self.trial: CompileTrial | None = None
        """Of the policy, with ``compile: auto``; None: whatever can be compiled is."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_resolved": None, "_compiled": None, "_shapes": set()}

    def _resolved_on(self, device: th.device) -> Resolved:
        if self._resolved is None or self._resolved[0] != device:
            self._resolved = (device, self.config.resolve(device))
        return self._resolved[1]

    def _stop_compiling(self, device: th.device) -> None:
        self._resolved = (device, self._resolved_on(device)._replace(compiled=False))

    def _is_to_compile(self, inputs: th.Tensor) -> bool:
        """Whether options, device and trial are for it; on a CPU, only the update is compiled."""
        if not self._resolved_on(inputs.device).compiled:
            return False
        if not th.is_grad_enabled():
            # on a CPU, a compiled call costs more than the few observations of a step take
            return inputs.device.type != "cpu"
        return self.trial is None or self.trial.compiles

    def _is_known_shape(self, inputs: th.Tensor, training: bool) -> bool:
        """Whether inputs of this kind were compiled for, or may yet be."""
        shape = (inputs.shape, inputs.dtype, training, th.is_grad_enabled())
        if shape not in self._shapes and len(self._shapes) >= MAX_SHAPES:
            return False
        self._shapes.add(shape)
        return True

    def _call_compiled(self, layers: Layers[Any], inputs: th.Tensor) -> Any:
        if self._compiled is None:
            self._compiled = compile_layers(layers, inputs.device)
        return self._compiled(inputs)


def own_result(output: th.Tensor) -> th.Tensor:
    """
    What compiled layers return, in fp32 and in memory that stays: a CUDA graph writes to the same on each replay.

    :param output: of a compiled call
    """
    in_fp32 = output.float()
    is_replayed = in_fp32 is output and output.device.type == "cuda"
    return in_fp32.clone() if is_replayed else in_fp32
