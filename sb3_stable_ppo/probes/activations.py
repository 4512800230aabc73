"""
Reading the activations of a policy's layers, without leaving a trace.

A probe runs the policy in eval mode, under ``no_grad``, samples nothing, and on its way out, whatever happened, puts
back each module's mode and removes its hooks: a run with probes ends in the very weights of a run without.

What a probe cannot read, it passes over, and names in ``unread``: an activation that is a function instead of a module,
behind a linear layer; anything that puts out several tensors or a nested one; whatever stands behind attention, which
mixes the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_stable_ppo.probes.activation_modules import (
    LEAKY,
    SATURATING,
    activation_modules,
    is_readable,
    outputs_per_unit,
    units_second,
)
from sb3_stable_ppo.probes.layers import Layer, find_layers
from sb3_stable_ppo.probes.outputs import Observations, outputs_of


class ActivationProbe:
    """
    Reads the activations of a policy's layers for given observations: what the first activation module puts out that
    runs after the layer, with whatever norm lies between.

    >>> probe = ActivationProbe(model.policy, kinds=("conv",))  # doctest: +SKIP
    >>> probe(observations)["conv1"].shape  # doctest: +SKIP
    torch.Size([8, 32, 20, 20])

    Behind an LSTM, layers are read as at the first step of an episode, where its state is zero. Of a transformer, the
    fused kernel is switched off meanwhile, which would run the layers without telling anyone.

    :param policy: any policy of SB3 or sb3-contrib
    :param kinds: which layers: ``conv``, ``fc``
    """

    def __init__(self, policy: BasePolicy, kinds: tuple[str, ...] = ("conv", "fc")) -> None:
        self.policy = policy
        self.all_layers = find_layers(policy)
        self.layers = [layer for layer in self.all_layers if layer.kind in kinds]
        self.activations: dict[str, tuple[str, nn.Module]] = {}
        """Of the layers read so far, by name, the activation behind it: where it is in the policy, and itself."""
        self.unread: list[str] = []
        """The linear layers that the last pass reached and did not read: no activation module stands behind them."""

    @property
    def saturating(self) -> set[str]:
        """The layers, of those read so far, whose activation is one of ``SATURATING``."""
        return {name for name, (_, module) in self.activations.items() if isinstance(module, SATURATING)}

    @property
    def leaky(self) -> set[str]:
        """The layers, of those read so far, whose activation is one of ``LEAKY``."""
        return {name for name, (_, module) in self.activations.items() if isinstance(module, LEAKY)}

    def by_unit(self, name: str, of_outputs: th.Tensor, dim: int = 0) -> th.Tensor:
        """
        Sort what is known of each output of an activation by the layer's units: ``crelu`` has two outputs for a unit,
        which are to be judged together. (One of them alone is silent wherever the unit keeps its sign.)

        :param name: of a layer that has been read
        :param of_outputs: with the outputs in dimension ``dim``
        :param dim: that dimension
        :return: with two dimensions in its place: outputs of a unit (1 for all activations but ``crelu``), and units
        """
        per_unit = outputs_per_unit(self.activations[name][1]) if name in self.activations else 1
        return th.unflatten(of_outputs, dim, (per_unit, -1))

    def describe(self, name: str) -> str:
        """
        A layer as its reader would find it in the policy.

        :param name: of a layer that has been read
        :return: such as ``conv1 (LeakyReLU at features_extractor.cnn.1, behind Conv2d at features_extractor.cnn.0)``
        """
        layer = next(layer for layer in self.all_layers if layer.name == name)
        own = f"{type(layer.module).__name__} at {layer.path}"
        if name not in self.activations:
            return f"{name} ({own})"
        path, module = self.activations[name]
        return f"{name} ({type(module).__name__} at {path}, behind {own})"

    def __call__(self, observations: Observations) -> dict[str, th.Tensor]:
        """
        :param observations: a batch as the policy gets it, on the policy's device, images not yet scaled
        :return: for each layer that was reached, by name, its activation, shape (batch, units, ...), where ``crelu``'s
            outputs count as units: two for each of the layer's
        """
        with self.listening() as activations:
            outputs_of(self.policy, observations)
        return activations

    @contextmanager
    def listening(self) -> Iterator[dict[str, th.Tensor]]:
        """
        Within this context the policy is in eval mode, without gradients, and whatever is run on it leaves the
        activations of the layers it reaches in the dict that the context gives.
        """
        activations: dict[str, th.Tensor] = {}
        reached: list[Layer] = []
        current: Layer | None = None

        def enter(layer: Layer, module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
            nonlocal current
            reached.append(layer)
            current = layer if layer in self.layers and is_readable(output) else None
            if current is not None and layer.kind == "conv":  # its activation may be a function, which no hook sees
                activations[layer.name] = units_second(output.detach(), layer)

        def activate(path: str, module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
            nonlocal current
            if current is not None and is_readable(output):
                activations[current.name] = units_second(output.detach(), current, outputs_per_unit(module))
                self.activations[current.name] = path, module
            current = None

        def mix(module: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001
            nonlocal current
            current = None

        handles = [layer.module.register_forward_hook(partial(enter, layer)) for layer in self.all_layers]
        handles += [
            module.register_forward_hook(mix)
            for module in self.policy.modules()
            if isinstance(module, nn.MultiheadAttention)
        ]
        handles += [
            module.register_forward_hook(partial(activate, path))
            for path, module in activation_modules(self.policy).items()
        ]
        try:
            with evaluating(self.policy), th.no_grad(), _without_fused_attention(), _own_draws(self.policy):
                yield activations
            self.unread = [layer.name for layer in self.layers if layer in reached and layer.name not in activations]
        finally:
            for handle in handles:
                handle.remove()


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


@contextmanager
def _own_draws(policy: BasePolicy) -> Iterator[None]:
    """What a network draws in eval mode, such as noise or a latent code, is drawn again by whatever comes after."""
    cpu, device = th.get_rng_state(), policy.device
    gpu = th.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        th.set_rng_state(cpu)
        if gpu is not None:
            th.cuda.set_rng_state(gpu, device)


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """
    ``nn.TransformerEncoderLayer`` runs its linear layers and activation one by one, also in eval mode. It does so by
    itself where they have hooks, but ``nn.TransformerEncoder`` with a padding mask makes nested tensors all the same.
    """
    was_enabled = th.backends.mha.get_fastpath_enabled()
    th.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        th.backends.mha.set_fastpath_enabled(was_enabled)
