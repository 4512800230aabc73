"""
A further term in the loss of any algorithm, by a rider on a tensor that ``train()`` makes its loss of.

``train()`` is SB3's own and its loss a local variable. But the gradient of a sum is the sum of the gradients: a tensor
``x`` that the loss is made of is replaced by itself, with a second parent in autograd's graph, the further term. When
the backward pass comes by, ``x`` gets its gradient as ever, and the term gets the coefficient, whatever came by. The
parameters then hold ``grad L + c * grad term`` exactly, before SB3 clips their norm. It does not matter that SB3 takes
a mean over ``x`` or weighs it with ``vf_coef``, even with 0: the coefficient is not multiplied by any of it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch as th
from torch import nn

from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.interventions.hooks import Hook

CARRIERS = ("value_net", "q_net", "quantile_net", "critic")
"""Attributes of policies: the network whose output every loss of its kind is made of."""


class _Ride(th.autograd.Function):
    """The first argument, with the second in its train."""

    @staticmethod
    def forward(ctx: Any, tensor: th.Tensor, term: th.Tensor, coefficient: float) -> th.Tensor:
        ctx.coefficient, ctx.like = coefficient, (term.dtype, term.device)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: th.Tensor) -> Any:
        dtype, device = ctx.like
        return gradients[0], th.full((), ctx.coefficient, dtype=dtype, device=device), None


def ride(tensor: th.Tensor, term: th.Tensor, coefficient: float) -> th.Tensor:
    """
    A tensor, bit for bit, through which whatever is made of it goes back to a further term too.

    >>> weight = th.tensor(3.0, requires_grad=True)
    >>> (0.0 * ride(2 * weight, weight**2, 10.0)).backward()
    >>> weight.grad.item()  # 0 of the first, 10 * 2 * 3 of the second
    60.0

    :param tensor: that a loss will be made of
    :param term: a scalar
    :param coefficient: of the term in the loss
    """
    apply: Any = _Ride.apply
    found: th.Tensor = apply(tensor, term, coefficient)
    return found


class GradientRider(Intervention):
    """
    Base of the interventions that add ``coefficient * term`` to the loss.

    A forward hook puts the rider on what the last layer of the critic puts out (``policy.value_net``, in the
    ``evaluate_actions`` of PPO, A2C, MaskablePPO and RecurrentPPO), the ``q_net`` of DQN, the ``quantile_net`` of
    QR-DQN, or the ``critic`` of SAC, TD3, TQC and CrossQ: there ``train()`` calls it once for each minibatch with
    gradients, for its loss. SAC's actor loss calls it too, with actions that have a gradient, and carries no rider.

    The hook is on from the end of a rollout to the start of the next. Should an exception have ended the update, the
    hook takes itself off when it is called next. While it is on, policies with ``lean`` learn in torch.

    :param verbose: SB3's verbosity
    :raises ValueError: when training starts, for an algorithm without such a network
    """

    choices = "PPO, A2C, MaskablePPO, RecurrentPPO, DQN, QRDQN, SAC, TD3, DDPG, TQC or CrossQ"
    """The algorithms that it serves, for errors."""

    def __init__(self, verbose: int = 0) -> None:
        super().__init__("always", verbose)
        self._attached = ExitStack()
        self._is_riding = False

    # -- for subclasses ------------------------------------------------------------------------------------------------

    @property
    def coefficient(self) -> float:
        """Of the term, now."""
        raise NotImplementedError

    @property
    def is_on(self) -> bool:
        """Whether there is anything to do; if not, nothing is hooked or computed."""
        raise NotImplementedError

    def term(self) -> th.Tensor | None:
        """
        The further term of this minibatch's loss, a scalar with gradients; None: none this time. What is run for it
        gets no rider.
        """
        raise NotImplementedError

    def listen(self, attached: ExitStack) -> None:
        """
        Before each update: further hooks.

        :param attached: takes them off when the update is over
        """

    # -- the rest is the same for all ----------------------------------------------------------------------------------

    @property
    def carrier(self) -> nn.Module | None:
        """The network whose output carries the rider."""
        found = (getattr(self.model.policy, name, None) for name in CARRIERS)
        return next((network for network in found if isinstance(network, nn.Module)), None)

    def check(self) -> None:
        if self.carrier is None or any(cls.__name__ == "TRPO" for cls in type(self.model).__mro__):
            raise ValueError(
                f"{type(self).__name__} adds a term to the loss, and {type(self.model).__name__} has none that it can "
                f"reach. Choose {self.choices}."
            )

    def before_update(self) -> None:
        self._release()
        if not self.is_on:
            return
        assert self.carrier is not None
        self._update = self._now()
        self.memory.update(sum=0.0, terms=0)
        self._attached.callback(self.carrier.register_forward_hook(Hook(self._put_on)).remove)
        self.listen(self._attached)

    def after_update(self) -> None:
        total, terms = self.memory.pop("sum", 0.0), self.memory.pop("terms", 0)
        if terms:
            self.memory["term"] = float(total) / terms

    def figures(self) -> dict[str, float]:
        return {"coefficient": self.coefficient, "term": self.memory.get("term", 0.0)} if self.is_on else {}

    def _on_rollout_start(self) -> None:
        self._release()  # also where the guards have undone the update, so that nobody counts it
        super()._on_rollout_start()

    def _on_training_end(self) -> None:
        self._release()
        super()._on_training_end()

    def _release(self) -> None:
        self._attached.close()

    def _now(self) -> tuple[Any, ...]:
        """The same throughout an update: ``learn()`` sets the one, each step of the env changes the other."""
        return self.model.start_time, self.model.num_timesteps

    def _put_on(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The forward hook: the output with the rider on it, or None, which leaves it as it is."""
        if self._now() != self._update:  # an update that an exception has ended
            self._release()
            return None
        of_actor = any(isinstance(each, th.Tensor) and each.requires_grad for each in args[1:])  # of SAC: the actions
        if self._is_riding or of_actor or not (module.training and th.is_grad_enabled()):
            return None
        self._is_riding = True
        try:
            term = self.term()
        finally:
            self._is_riding = False
        if term is None:
            return None
        memory = self.memory
        memory["sum"], memory["terms"] = memory["sum"] + term.detach(), memory["terms"] + 1
        if isinstance(output, tuple):
            return ride(output[0], term, self.coefficient), *output[1:]
        return ride(output, term, self.coefficient)
