"""
Reading the activations of a policy's layers, without leaving a trace.

A probe runs the policy in eval mode, under ``no_grad``, samples nothing, and on its way out, whatever happened, puts
back each module's mode and removes its hooks: a run with probes ends in the very weights of a run without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

Observations = th.Tensor | dict[str, th.Tensor]

_BRANCHES = {
    "features_extractor": "",
    "pi_features_extractor": "pi",
    "vf_features_extractor": "vf",
    "mlp_extractor.policy_net": "pi",
    "mlp_extractor.value_net": "vf",
}


@dataclass(frozen=True)
class Layer:
    """
    A layer that a probe reads.

    :param name: short and readable: ``conv1``, ``fc1``, ``pi.fc1`` (actor), ``camera.conv1`` (a key of a Dict)
    :param path: where it is in the policy, as in the state dict
    :param kind: ``conv`` or ``fc``
    :param module: the convolution or linear layer itself
    """

    name: str
    path: str
    kind: str
    module: nn.Module


def find_layers(policy: BasePolicy) -> list[Layer]:
    """
    The convolutional and linear layers of a policy, but for its output layers.

    :param policy: any SB3 policy
    """
    found: list[Layer] = []
    counts: dict[tuple[str, str], int] = {}
    for path, module in policy.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and path not in ("action_net", "value_net"):
            branch, kind = _branch(path), "conv" if isinstance(module, nn.Conv2d) else "fc"
            counts[branch, kind] = counts.get((branch, kind), 0) + 1
            found.append(Layer(f"{branch}{kind}{counts[branch, kind]}", path, kind, module))
    return found


SATURATING = (nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid)
"""Activations for which the sign of the output says nothing of whether a unit works."""


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's activations."""
    return type(module).__module__ == "torch.nn.modules.activation"


def _branch(path: str) -> str:
    """The part of a layer's name that tells actor from critic and one Dict key from another."""
    for prefix, branch in _BRANCHES.items():
        if path.startswith(f"{prefix}."):
            rest = path[len(prefix) + 1 :]
            if rest.startswith("extractors."):
                branch = ".".join(filter(None, (branch, rest.split(".")[1])))
            return f"{branch}." if branch else ""
    return f"{path.split('.')[0]}."


class ActivationProbe:
    """
    Reads the activations of a policy's layers for given observations: what the first activation module puts out that
    runs after the layer, with whatever norm lies between.

    >>> probe = ActivationProbe(model.policy, kinds=("conv",))
    >>> probe(observations)["conv1"].shape
    torch.Size([8, 32, 20, 20])

    :param policy: any SB3 policy. Extractors are always read; hidden layers behind them only of actor-critic
        policies without recurrence
    :param kinds: which layers: ``conv``, ``fc``
    """

    def __init__(self, policy: BasePolicy, kinds: tuple[str, ...] = ("conv", "fc")) -> None:
        self.policy = policy
        self.all_layers = find_layers(policy)
        self.layers = [layer for layer in self.all_layers if layer.kind in kinds]
        self.saturating: set[str] = set()
        """The layers, of those read so far, whose activation is one of ``SATURATING``."""

    def __call__(self, observations: Observations) -> dict[str, th.Tensor]:
        """
        :param observations: a batch as the policy gets it, on the policy's device, images not yet scaled
        :return: for each layer that was reached, by name, its activation, shape (batch, units, ...)
        """
        with self.listening() as activations:
            self._run(observations)
        return activations

    @contextmanager
    def listening(self) -> Iterator[dict[str, th.Tensor]]:
        """
        Within this context the policy is in eval mode, without gradients, and whatever is run on it leaves the
        activations of the layers it reaches in the dict that the context gives.
        """
        activations: dict[str, th.Tensor] = {}
        current: Layer | None = None

        def enter(layer: Layer, module: nn.Module, args: Any, output: th.Tensor) -> None:  # noqa: ARG001
            nonlocal current
            current = layer if layer in self.layers else None
            if current is not None and layer.kind == "conv":  # its activation may be a function, which no hook sees
                activations[layer.name] = output.detach()

        def activate(module: nn.Module, args: Any, output: th.Tensor) -> None:  # noqa: ARG001
            nonlocal current
            if current is not None:
                activations[current.name] = output.detach()
                if isinstance(module, SATURATING):
                    self.saturating.add(current.name)
                current = None

        handles = [layer.module.register_forward_hook(partial(enter, layer)) for layer in self.all_layers]
        handles += [module.register_forward_hook(activate) for module in self.policy.modules() if is_activation(module)]
        try:
            with evaluating(self.policy), th.no_grad():
                yield activations
        finally:
            for handle in handles:
                handle.remove()

    def _run(self, observations: Observations) -> None:
        policy = self.policy
        needs_hidden = any(layer.path.startswith("mlp_extractor") for layer in self.layers)
        if needs_hidden and not hasattr(policy, "lstm_actor"):
            actor_critic = cast("ActorCriticPolicy", policy)  # or MaskableActorCriticPolicy, which has the same methods
            features = actor_critic.extract_features(observations)
            actor, critic = features if isinstance(features, tuple) else (features, features)
            actor_critic.mlp_extractor.forward_actor(actor)
            actor_critic.mlp_extractor.forward_critic(critic)
            return
        preprocessed = preprocess_obs(observations, policy.observation_space, policy.normalize_images)
        for extractor in _outermost_extractors(policy):
            extractor(preprocessed)


def _outermost_extractors(policy: nn.Module) -> list[BaseFeaturesExtractor]:
    """Each features extractor once, without those inside another (they take a part of the observation)."""
    extractors: dict[str, BaseFeaturesExtractor] = {}
    for path, module in policy.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in extractors)
        if isinstance(module, BaseFeaturesExtractor) and not inside:
            extractors[path] = module
    return list(extractors.values())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """
    Eval mode within, and each submodule's own mode again afterwards.

    :param module: a policy
    """
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True
