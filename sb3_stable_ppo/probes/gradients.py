"""
Gradients as ``backward`` leaves them, before SB3 clips them: read in passing while an update runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import torch as th
from torch import nn
from torch.utils.hooks import RemovableHandle

from sb3_stable_ppo.metrics.weights import grama_fraction
from sb3_stable_ppo.probes.layers import Layer


class GradientRecorder:
    """
    Listens to the weights of some layers; of the last minibatch that passes, it keeps what :meth:`figures` needs.

    Of each gradient it takes the norm at once, because ``clip_grad_norm_`` scales the gradient in place afterwards. The
    gradient itself it keeps without a copy: scaling does not change the fraction that is made from it.

    :param layers: as a probe has them; passed over are those whose weights are frozen, which get no gradient, and those
        whose weights are computed from others, as by ``weight_norm``
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.seconds = 0.0
        """The time that listening has taken so far."""
        self._norms: dict[str, th.Tensor] = {}
        self._gradients: dict[str, th.Tensor] = {}
        self._handles: list[RemovableHandle] = []
        for layer in layers:
            weight = layer.module.weight
            if isinstance(weight, nn.Parameter) and weight.requires_grad:
                keep = partial(self._keep, layer.name)
                self._handles.append(weight.register_post_accumulate_grad_hook(keep))  # type: ignore[no-untyped-call]

    def _keep(self, name: str, weight: th.Tensor) -> None:
        start = time.perf_counter()
        assert weight.grad is not None
        gradient = weight.grad.detach()
        self._norms[name], self._gradients[name] = th.linalg.vector_norm(gradient), gradient
        self.seconds += time.perf_counter() - start

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def figures(self) -> dict[str, dict[str, float]]:
        """By layer, ``gradient_norm`` and ``grama_fraction``; empty if no gradient passed."""
        return {
            name: {"gradient_norm": float(self._norms[name]), "grama_fraction": round(grama_fraction(gradient), 6)}
            for name, gradient in self._gradients.items()
        }
