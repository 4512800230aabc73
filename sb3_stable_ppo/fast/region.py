"""
Modules of one policy that follow each other, compiled as one. On a GPU that is one CUDA graph in place of several, and
what lies between them is not converted to fp32 and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch as th

from sb3_stable_ppo.fast.compiled_calls import CompiledCalls, own_result
from sb3_stable_ppo.fast.compiling import first_line, is_compile_failure, is_traced
from sb3_stable_ppo.fast.config import FastPathConfig, log
from sb3_stable_ppo.fast.execution import Ahead, FastPath, precision
from sb3_stable_ppo.fast.hooks import Hooks


class Step(NamedTuple):
    """
    :param path: of the module that computes
    :param takes: the number of the step whose outputs it gets; None: it gets what the region gets
    """

    path: FastPath
    takes: int | None


class Region(CompiledCalls):
    """
    Computes ahead what modules will be asked for by code that is not ours and calls them one by one. Each then returns
    what was computed for the very tensor that it is given; given any other, it computes as ever. All outputs have their
    gradients, whatever is done with them.

    :param steps: in order; a step takes outputs of earlier ones
    :param config: of all their fast paths
    """

    def __init__(self, steps: Sequence[Step], config: FastPathConfig) -> None:
        super().__init__(config)
        self.steps = list(steps)
        self._hooks = Hooks(module for path, _ in self.steps for module in path.module.modules())

    @contextmanager
    def ahead(self, inputs: th.Tensor) -> Iterator[None]:
        """
        Within this context the modules return what was computed ahead. Nothing is, and each computes by itself, where
        one has a hook, where the trial has its uncompiled turn, and where compiled calls do not pay.

        :param inputs: that the first modules will get
        """
        outputs = self._outputs(inputs)
        if outputs is None:
            yield
            return
        try:
            for (path, takes), output in zip(self.steps, outputs, strict=True):
                path.ahead = Ahead.of(inputs if takes is None else outputs[takes], output)
            yield
        finally:
            for path, _ in self.steps:
                path.ahead = None

    def _outputs(self, inputs: th.Tensor) -> list[th.Tensor] | None:
        if self._hooks or is_traced() or not self._is_to_compile(inputs):
            return None
        device = inputs.device
        with precision(device, self._resolved_on(device)):
            if not self._is_known_shape(inputs, self.steps[0].path.module.training):
                return self._run_eagerly(inputs)  # by themselves, the modules would be compiled for it
            try:
                return [own_result(output) for output in self._call_compiled(self._run_layers, inputs)]
            except Exception as error:
                if not is_compile_failure(error):
                    raise
                outputs = self._run_eagerly(inputs)  # where the layers are at fault, this raises
                log.warning("each network is compiled by itself, since together they cannot be: %s", first_line(error))
                self._stop_compiling(device)
                return outputs

    def _run_eagerly(self, inputs: th.Tensor) -> list[th.Tensor]:
        return [output.float() for output in self._run_layers(inputs)]

    def _run_layers(self, inputs: th.Tensor) -> tuple[th.Tensor, ...]:
        outputs: list[th.Tensor] = []
        for path, takes in self.steps:
            outputs.append(path.module.run_fused_layers(inputs if takes is None else outputs[takes]))
        return tuple(outputs)
