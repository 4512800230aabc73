"""
The last weights of a model that were finite, and everything else that has to go back with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr

from sb3_stable_ppo.common.patching import uncompiled
from sb3_stable_ppo.common.tensors import all_finite, copied, first_nonfinite
from sb3_stable_ppo.guards.module_state import is_floating_tensor, put_back, state_of

VARIABLES, MEMORY = "variables", "intervention_memory"


class LastGood:
    """
    A copy of what a model learns, in memory: what ``save()`` would keep (SB3's ``_get_torch_save_params``: the policy
    with its targets and buffers, the optimizers, SAC's entropy coefficient), the buffers that it would not, and what
    interventions remember.

    :param model: set up
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model
        self._copy: dict[str, Any] = {}
        # A buffer that was not finite before any update, such as a mask of -inf, or was not there, is meant to be so;
        # a weight never is
        policy = uncompiled(model.policy)
        self._weights = {name for name, _ in policy.named_parameters()}
        self._finite_buffers = {
            name for name, buffer in state_of(policy).items() if is_floating_tensor(buffer) and all_finite([buffer])
        }

    @property
    def is_taken(self) -> bool:
        """Whether there is a copy."""
        return bool(self._copy)

    @property
    def optimizers(self) -> dict[str, th.optim.Optimizer]:
        """All that the model has, by their places in it."""
        parts = {name: recursive_getattr(self.model, name) for name in self.model._get_torch_save_params()[0]}
        return {name: part for name, part in parts.items() if isinstance(part, th.optim.Optimizer)}

    def acting(self) -> list[th.Tensor]:
        """What the next actions, and the next losses, depend upon first: the actor, or else all that is trained."""
        policy: Any = self.model.policy
        variables = [value.detach() for value in self._variables().values()]
        actor = getattr(policy, "actor", None)
        if actor is not None:
            tensors = [
                *actor.parameters(),
                *(buffer for name, buffer in actor.named_buffers() if self._is_judged(f"actor.{name}")),
            ]
        else:
            tensors = [p for each in self.optimizers.values() for group in each.param_groups for p in group["params"]]
        return [*variables, *(tensor.detach() for tensor in tensors if tensor.is_floating_point())]

    def problem(self) -> str | None:
        """What is not finite now, in words, or None."""
        tensors = self._judged()
        return None if all_finite(list(tensors.values())) else first_nonfinite(tensors)

    def take(self) -> None:
        """Copy everything as it is now, into the last copy's memory."""
        self._copy = copied(self._state(), self._copy)

    def restore(self) -> None:
        """Put the copy back in place; can be done more than once."""
        for name in self.model._get_torch_save_params()[0]:
            part, kept = recursive_getattr(self.model, name), self._copy[name]
            if isinstance(part, th.optim.Optimizer):
                part.load_state_dict(copied(kept))  # which keeps the tensors that it is given
            else:
                put_back(uncompiled(part), kept)
        for name, value in self._variables().items():
            value.data.copy_(self._copy[VARIABLES][name])
        getattr(self.model, MEMORY, {}).update(copied(self._copy[MEMORY]))

    def _is_judged(self, name: str) -> bool:
        """Whether a tensor of the policy has to be finite."""
        return name in self._weights or name in self._finite_buffers

    def _variables(self) -> dict[str, th.Tensor]:
        return {name: recursive_getattr(self.model, name) for name in self.model._get_torch_save_params()[1]}

    def _state(self) -> dict[str, Any]:
        remembered = getattr(self.model, MEMORY, {})
        return {**self._parts(), VARIABLES: self._variables(), MEMORY: remembered}

    def _parts(self) -> dict[str, Any]:
        """What ``get_parameters()`` gives, and the buffers that no zip holds."""
        parts = {name: recursive_getattr(self.model, name) for name in self.model._get_torch_save_params()[0]}
        return {
            name: part.state_dict() if isinstance(part, th.optim.Optimizer) else state_of(uncompiled(part))
            for name, part in parts.items()
        }

    def _judged(self) -> dict[str, th.Tensor]:
        """All that has to be finite."""
        state = {**self._parts(), **self._variables()}
        state["policy"] = {name: value for name, value in state["policy"].items() if self._is_judged(name)}
        return {name: tensor.detach() for name, tensor in named_tensors(state) if tensor.is_floating_point()}


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, th.Tensor]]:
    """
    The tensors in nested dicts, by their keys joined with dots.

    :param value: a tensor, a dict, or what holds none
    :param name: of the whole
    """
    if isinstance(value, th.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from named_tensors(child, f"{name}.{key}" if name else str(key))
