"""
Gradients as ``backward`` leaves them, before SB3 clips them: read in passing while an update runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch as th
from torch import nn
from torch.utils.hooks import RemovableHandle

from sb3_stable_ppo.metrics.weights import gradient_norms, grama_fraction
from sb3_stable_ppo.probes.activations import Layer


class GradientRecorder:
    """
    Listens to the weights of some layers; of the last minibatch that passes, it keeps what :meth:`figures` needs.

    :param layers: as a probe has them
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._gradients: dict[str, th.Tensor] = {}
        self._handles: list[RemovableHandle] = []
        for layer in layers:
            weight = layer.module.weight
            assert isinstance(weight, nn.Parameter)
            keep = partial(self._keep, layer.name)
            self._handles.append(weight.register_post_accumulate_grad_hook(keep))  # type: ignore[no-untyped-call]

    def _keep(self, name: str, weight: th.Tensor) -> None:
        assert weight.grad is not None
        self._gradients[name] = weight.grad.detach().clone()

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def figures(self) -> dict[str, dict[str, float]]:
        """By layer, ``gradient_norm`` and ``grama_fraction``; empty if no gradient passed."""
        norms = gradient_norms(self._gradients)
        return {
            name: {"gradient_norm": norms[name], "grama_fraction": round(grama_fraction(gradient), 6)}
            for name, gradient in self._gradients.items()
        }
