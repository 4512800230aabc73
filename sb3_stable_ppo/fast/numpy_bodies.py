"""
The hidden layers of actor and critic in NumPy: side by side in one go where both have the same form, else one after the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch import nn

from sb3_stable_ppo.fast.numpy_forms import Rows
from sb3_stable_ppo.fast.numpy_layers import Layers

Pair = tuple[Rows, Rows]
"""Of the actor and of the critic, each of shape (batch, features)."""
PairPullback = Callable[[Rows, Rows], list[Rows]]
"""From the gradients of what actor and critic put out to those of all parameters."""


class Bodies(Protocol):
    """
    The hidden layers of both. ``parameters`` has the order of the gradients; without ``learns`` only torch can.
    """

    parameters: list[nn.Parameter]
    learns: bool

    def __call__(self, inputs: Pair) -> Pair: ...

    def actor(self, rows: Rows) -> Rows:
        """
        :param rows: its input
        :return: what the actor alone puts out
        """
        ...

    def learn(self, inputs: Pair) -> tuple[Pair, PairPullback]: ...


def bodies(actor: Sequence[nn.Module], critic: Sequence[nn.Module]) -> Bodies:
    """
    :param actor: its hidden layers
    :param critic: its hidden layers
    :return: both in NumPy
    :raises NoNumpyForm: naming the first module that has none
    """
    are_alike = [repr(module) for module in actor] == [repr(module) for module in critic]
    begin_with_products = [type(module) for module in actor[:1]] == [nn.Linear]
    # Twins move the weights to memory of their own, where the processes of share_memory() would not see them change
    tensors: list[Any] = [parameter for module in (*actor, *critic) for parameter in module.parameters()]
    stay = any(tensor.is_shared() for tensor in tensors)
    return Twins(actor, critic) if are_alike and begin_with_products and not stay else Two(actor, critic)


class Twins:
    """Networks of the same form: each layer of both is one product of matrices."""

    def __init__(self, actor: Sequence[nn.Module], critic: Sequence[nn.Module]) -> None:
        self.layers = Layers(actor, critic)
        self.parameters, self.learns = self.layers.parameters, self.layers.learns

    def __call__(self, inputs: Pair) -> Pair:
        actor, critic = self.layers(_together(inputs))
        return actor, critic

    def actor(self, rows: Rows) -> Rows:
        found: Rows = self.layers(rows)[0]
        return found

    def learn(self, inputs: Pair) -> tuple[Pair, PairPullback]:
        (actor, critic), back = self.layers.learn(_together(inputs))
        return (actor, critic), lambda of_actor, of_critic: back(np.stack((of_actor, of_critic)))[1]


def _together(inputs: Pair) -> Rows:
    actor, critic = inputs
    return actor if actor is critic else np.stack(inputs)


class Two:
    """Networks of different forms."""

    def __init__(self, actor: Sequence[nn.Module], critic: Sequence[nn.Module]) -> None:
        self.of_actor, self.of_critic = Layers(actor), Layers(critic)
        self.parameters = [*self.of_actor.parameters, *self.of_critic.parameters]
        self.learns = self.of_actor.learns and self.of_critic.learns

    def __call__(self, inputs: Pair) -> Pair:
        return self.of_actor(inputs[0]), self.of_critic(inputs[1])

    def actor(self, rows: Rows) -> Rows:
        return self.of_actor(rows)

    def learn(self, inputs: Pair) -> tuple[Pair, PairPullback]:
        actor, actor_back = self.of_actor.learn(inputs[0])
        critic, critic_back = self.of_critic.learn(inputs[1])
        return (actor, critic), lambda of_actor, of_critic: [*actor_back(of_actor)[1], *critic_back(of_critic)[1]]
