"""FeatureRegularization: what the hidden layers make of a state stays near what they made of it in the rollout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.checks import number, one_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.interventions.aside import aside
from sb3_stable_ppo.interventions.hooks import Hook, StandIn
from sb3_stable_ppo.interventions.rider import GradientRider

LAYERS = ("last", "all")
CHUNK = 1024
"""Rows of the rollout that are read at once."""


@public
class FeatureRegularization(GradientRider):
    """
    Adds to PPO's loss how far the actor's features have moved since the rollout: ``strength * mean (z - z_rollout)**2``
    over the rows of the minibatch and all units. ``z`` is what a hidden layer puts out before norm and activation.
    "No Representation, No Trust" calls it PFO (https://arxiv.org/abs/2405.00662): PPO clips how far the probabilities
    move, and nothing there bounds the features beneath. The paper's strengths on Atari are 1 for the last layer and 10
    for all.

    The features of a whole rollout lie in main memory during an update: 4 bytes for each row and unit. That is 2 MB for
    1024 rows of 512 units, and 88 MB for the same rows with all layers of NatureCNN, which has 22,000 units a row.
    Reading them costs one forward pass through the actor for each row, once in each update. Layers are listened to
    during the update, so compiled or fused ones run one by one.

    For PPO and MaskablePPO, whose updates go over a rollout several times. Relies on rollout buffers to take each
    minibatch by ``_get_samples(indices)``, and on ``policy.get_distribution``.

    >>> model.learn(100_000, callback=FeatureRegularization(strength=10, layers="all"))  # doctest: +SKIP

    The rollout's features are taken as the policy acts, in eval mode. Where an update computes others by itself, with
    dropout or ``norm_statistics="batch"``, the term is not 0 although nothing was learnt.

    :param strength: of the term; 0: stock training
    :param layers: ``last``: the actor's last hidden layer; ``all``: all of its hidden layers, convolutions too
    :param verbose: SB3's verbosity
    :raises ValueError: for a negative strength, or an unknown word; when training starts, for another algorithm, an
        actor without hidden layers, or a second FeatureRegularization in the list
    """

    choices = "PPO, MaskablePPO, StablePPO or StableMaskablePPO"

    def __init__(self, strength: float = 1.0, layers: str = "last", verbose: int = 0) -> None:
        super().__init__(verbose)
        self.strength = number(strength, "strength")
        self.layers = one_of(layers, LAYERS, "layers")

    @property
    def is_on(self) -> bool:
        return self.strength > 0

    @property
    def coefficient(self) -> float:
        return self.strength

    def check(self) -> None:
        super().check()
        self._model: Any = self.model
        policy: Any = self._model.policy
        goes_over_rollouts = hasattr(self._model, "rollout_buffer") and hasattr(self._model, "n_epochs")
        if not goes_over_rollouts or hasattr(policy, "lstm_actor"):
            raise ValueError(
                "FeatureRegularization holds features through the several passes of an update over a rollout of single "
                f"steps, and {type(self.model).__name__} makes no such passes. Choose {self.choices}."
            )
        alike = [each for each in callbacks_within(self.locals.get("callback")) if type(each) is type(self)]
        if len(alike) > 1:
            raise ValueError(
                "FeatureRegularization is in the list of callbacks more than once: one does, with layers='all' and the "
                "sum of the strengths."
            )
        hidden = hidden_layers(policy, policy.obs_to_tensor(self._model._last_obs)[0])
        if not hidden:
            raise ValueError(
                "FeatureRegularization holds what hidden layers put out, and this actor has none: choose another "
                "net_arch in policy_kwargs, or leave FeatureRegularization out."
            )
        self._layers = hidden[-1:] if self.layers == "last" else hidden

    def listen(self, attached: ExitStack) -> None:
        self._rollout = self._read_rollout()
        self._now_read: dict[nn.Module, th.Tensor] = {}
        self._rows: Any = ()
        attached.callback(self._forget)
        buffer = self._model.rollout_buffer
        get_samples = buffer._get_samples

        def note_rows(indices: Any, *args: Any, **kwargs: Any) -> Any:
            self._rows = indices
            return get_samples(indices, *args, **kwargs)

        attached.enter_context(patched(buffer, "_get_samples", StandIn(buffer, "_get_samples", note_rows)))
        for layer in self._layers:
            attached.callback(layer.register_forward_hook(Hook(self._note_features)).remove)

    def term(self) -> th.Tensor:
        """
        :raises RuntimeError: if ``train()`` has not taken its minibatch as it should
        """
        features = th.cat([self._now_read[layer] for layer in self._layers], dim=1)
        if len(features) != len(self._rows):
            raise RuntimeError(
                f"{type(self.model).__name__} evaluates {len(features)} rows after it drew {len(self._rows)} from the "
                "rollout buffer, so that FeatureRegularization cannot tell which they are: leave it out."
            )
        stored = self._rollout[th.as_tensor(self._rows)].to(features.device)
        return th.nn.functional.mse_loss(features, stored)

    def _note_features(self, layer: nn.Module, args: Any, output: th.Tensor) -> None:  # noqa: ARG002
        if self.model.policy.training and th.is_grad_enabled():  # the minibatch itself, and nobody's second look
            self._now_read[layer] = output.flatten(1).float()

    def _read_rollout(self) -> th.Tensor:
        """The features of all rows, on the CPU, in the order in which ``get`` will flatten them: env by env."""
        policy = self._model.policy
        buffer = self._model.rollout_buffer
        size, stored = buffer.buffer_size * buffer.n_envs, buffer.observations
        found: list[th.Tensor] = []
        with aside(policy), th.no_grad():
            for start in range(0, size, CHUNK):
                envs, steps = np.divmod(np.arange(start, min(start + CHUNK, size)), buffer.buffer_size)
                observations = (
                    {key: buffer.to_torch(array[steps, envs]) for key, array in stored.items()}
                    if isinstance(stored, dict)
                    else buffer.to_torch(stored[steps, envs])
                )
                with outputs(self._layers) as read:
                    policy.get_distribution(observations)
                found.append(th.cat([read[layer].flatten(1).float().cpu() for layer in self._layers], dim=1))
        return th.cat(found)

    def _forget(self) -> None:
        del self._rollout, self._now_read, self._rows


def hidden_layers(policy: Any, observations: Any) -> list[nn.Module]:
    """
    The linear and convolutional layers that run on the way to an action, but for the last, in the order in which they
    do.

    :param policy: an actor-critic
    :param observations: a batch of any size
    """
    last = set(policy.action_net.modules())
    layers: list[nn.Module] = [
        module
        for module in policy.modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and module not in last
    ]
    with aside(policy), th.no_grad(), outputs(layers) as read:
        policy.get_distribution(observations)
    return list(read)


@contextmanager
def outputs(layers: list[nn.Module]) -> Iterator[dict[nn.Module, th.Tensor]]:
    """
    Within this context each of some layers leaves its latest output in the dict that the context gives.

    :param layers: modules with one tensor as output
    """
    read: dict[nn.Module, th.Tensor] = {}
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(partial(_keep, read)).remove)
        yield read


def _keep(read: dict[nn.Module, th.Tensor], layer: nn.Module, args: Any, output: th.Tensor) -> None:  # noqa: ARG001
    read[layer] = output
