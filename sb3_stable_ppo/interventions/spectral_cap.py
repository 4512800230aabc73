"""SpectralCap: the largest singular value of each layer is capped."""

from __future__ import annotations

from typing import Any, ClassVar

import torch as th

from sb3_stable_ppo.common.checks import number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.weight_space import WeightIntervention
from sb3_stable_ppo.probes.learners import Weight


@public
class SpectralCap(WeightIntervention):
    """
    Scales a layer's weights down where their largest singular value exceeds a cap, behind each step of the optimizer:
    ``W <- W * min(1, cap / sigma(W))``; of a convolution, of its weights as a matrix with a row for each channel.

    Spectral normalisation (https://arxiv.org/abs/1802.05957, in DQN https://arxiv.org/abs/2105.05246) without torch's
    parametrization, which would rename the keys of the saved model. With ``always``, sigma comes from one step of power
    iteration at a time, from where the last one ended: it is never above the true value, which it approaches over some
    tens of steps. At a trigger it is exact.

    :param cap: the largest singular value; SB3's orthogonal init has sqrt(2), ours 0.8. No value is published for PPO
    :param when: ``always``; or as a trigger
    :param last_layer: whether the last layer of each network is capped too
    :param verbose: SB3's verbosity
    :raises ValueError: for a cap of 0 or below
    """

    with_biases: ClassVar[bool] = False

    def __init__(self, cap: float = 2.0, when: Any = "always", last_layer: bool = False, verbose: int = 0) -> None:
        super().__init__(when, last_layer, verbose)
        self.cap = number(cap, "cap", low=1e-6)

    def move(self, weights: list[Weight]) -> None:
        for weight in weights:
            sigma = self._sigma(weight)
            weight.parameter.mul_((self.cap / sigma.clamp(min=1e-12)).clamp(max=1.0))

    def act(self) -> None:
        """Seldom, so the exact value is worth its time."""
        for weight in self.everything():
            sigma = th.linalg.matrix_norm(weight.parameter.flatten(1).float(), 2)
            weight.parameter.mul_((self.cap / sigma.clamp(min=1e-12)).clamp(max=1.0))

    def _sigma(self, weight: Weight) -> th.Tensor:
        matrix, vectors = weight.parameter.detach().flatten(1), self.memory.setdefault("vectors", {})
        if weight.name not in vectors:
            generator = th.Generator().manual_seed(0)
            vectors[weight.name] = th.randn(matrix.shape[1], generator=generator).to(matrix)
        output = matrix @ vectors[weight.name].to(matrix)
        left = th.nn.functional.normalize(output, dim=0)
        right = matrix.T @ left
        sigma: th.Tensor = th.linalg.vector_norm(right)
        # From weights of 0, or NaN, no vector would ever come back
        is_sound = (sigma > 0) & th.isfinite(sigma)
        vectors[weight.name] = th.where(is_sound, right / sigma.clamp(min=1e-12), vectors[weight.name].to(matrix))
        return sigma

    def after_update(self) -> None:
        vectors = self.memory.get("vectors", {})
        for name, vector in vectors.items():
            vectors[name] = vector.cpu()  # a zip that is saved on a GPU can then be loaded without one

    def figures(self) -> dict[str, float]:
        vectors = self.memory.get("vectors", {})
        sigmas = [
            float(
                th.linalg.vector_norm(weight.parameter.detach().flatten(1) @ vectors[weight.name].to(weight.parameter))
            )
            for weight in self.everything()
            if weight.name in vectors
        ]
        return {"largest_sigma": max(sigmas)} if sigmas else {}
