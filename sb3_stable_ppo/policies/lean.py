"""
Small networks act and learn without torch's cost per call: layers and distribution in NumPy, forward and backward.

SB3's ``forward`` takes some hundred microseconds for one observation of four numbers, nearly all of it in the calls of
modules and in the checks of distributions, and ``evaluate_actions`` some hundred more on the way back. Here the same
figures and the same gradients take a fraction of it (docs/fast_path.md).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch as th

from sb3_stable_ppo.common.checks import unknown
from sb3_stable_ppo.fast.compiling import is_traced
from sb3_stable_ppo.fast.config import log
from sb3_stable_ppo.fast.hooks import Hooks
from sb3_stable_ppo.fast.numpy_actions import NotFinite
from sb3_stable_ppo.fast.numpy_forms import NoNumpyForm
from sb3_stable_ppo.fast.parts import Parts
from sb3_stable_ppo.policies.actor_critic import ActorCritic
from sb3_stable_ppo.policies.lean_networks import Networks, networks_of

LEAN = (True, False, "auto")
MAX_ROWS = 256
"""Observations at once; from there on arithmetic counts, which torch does on several threads."""


def one_of_lean(given: bool | str) -> bool | str:
    """
    :param given: the option
    :return: it
    :raises ValueError: for any other word
    """
    if not isinstance(given, (bool, str)) or given not in LEAN:  # 1 is equal to True, and not True
        raise ValueError(unknown("lean", given, ("true", "false", "auto")))
    return given


class LeanActor:
    """
    Acts for a policy, where it can. It is copied and pickled with its policy; the arrays are made anew.

    :param policy: one of ours, built
    """

    def __init__(self, policy: LeanActing) -> None:
        self.policy = policy
        self.networks: Networks | None = None
        self._made_of: list[Any] | None = None
        self._hooks = Hooks([])
        self._parts = Parts([])
        self._is_current = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "networks": None, "_made_of": None, "_parts": Parts([]), "_is_current": False}

    def check(self) -> None:
        """
        :raises ValueError: if the user asked for it with True, and what the policy is built of has no NumPy form
        """
        if self.policy.lean is True:
            self._renew()

    def look_again(self) -> None:
        """To be called where the policy's modules may have other options since."""
        self._is_current = False

    def is_ready_for(self, obs: Any, learning: bool = False) -> bool:
        """
        Whether NumPy can do it now: for few rows, while nobody listens to the policy's modules, wants the gradient of
        the observations, or traces, compiles or exports the call.

        :param obs: observations
        :param learning: with gradients, in train mode; otherwise without, in eval mode
        :raises ValueError: if it never can, and the user asked for it with True
        """
        if is_traced() or th.compiler.is_compiling():
            return False  # before _renew, which may move weights
        if not self._is_current or not self._parts.are_in_place():
            self._renew()
        first = next(iter(obs.values())) if isinstance(obs, dict) else obs
        return (
            self.networks is not None
            and first.shape[0] <= MAX_ROWS  # len() takes a microsecond
            and self.policy.training == learning == th.is_grad_enabled()
            and not (learning and not (self.networks.bodies.learns and not wants_gradient(obs)))
            and not self._hooks
        )

    def _renew(self) -> None:
        self._is_current = True
        if self.networks is not None:
            _forget_update(self.policy.action_dist)
        self._parts = Parts(self.policy.modules())
        if self._parts.description() == self._made_of:
            return
        self._hooks = Hooks(self.policy.modules())
        self.networks = None
        if self.policy.device.type == "cpu":
            try:
                self.networks = networks_of(self.policy)
            except NoNumpyForm as error:
                if self.policy.lean is True:
                    raise ValueError(f"lean: true cannot be done here: {error}. Choose false or auto.") from None
                log.info("lean: auto acts as SB3 does: %s", error)
        else:
            log.info("lean: %s acts as SB3 does: the policy is on %s", self.policy.lean, self.policy.device)
        self._parts = Parts(self.policy.modules())  # now: weights of networks that are alike have just been moved
        self._made_of = self._parts.description()


class LeanActing(ActorCritic):
    """Mixin for a policy: SB3's ``forward``, ``_predict`` and ``evaluate_actions`` in NumPy, where that can be."""

    lean: bool | str
    _lean_actor: LeanActor | None = None

    def forward(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``forward``, with which algorithms collect rollouts."""
        actor = self._lean_actor
        if actor is not None and actor.is_ready_for(obs):
            assert actor.networks is not None
            with suppress(NotFinite):
                return actor.networks.forward(obs, *args, **kwargs)
        return super().forward(obs, *args, **kwargs)

    def _predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``_predict``, of which ``predict`` is made."""
        actor = self._lean_actor
        if actor is not None and actor.is_ready_for(observation):
            assert actor.networks is not None
            with suppress(NotFinite):
                return actor.networks.predict(observation, *args, **kwargs)
        return super()._predict(observation, *args, **kwargs)

    def evaluate_actions(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``evaluate_actions``, from which algorithms learn."""
        actor = self._lean_actor
        if actor is not None and actor.is_ready_for(obs, learning=True):
            assert actor.networks is not None
            with suppress(NotFinite):
                return actor.networks.evaluate_actions(obs, *args, **kwargs)
        return super().evaluate_actions(obs, *args, **kwargs)

    def set_training_mode(self, mode: bool) -> None:
        """SB3 calls it before each rollout, update and ``predict``."""
        if self._lean_actor is not None and mode != self.training:
            self._lean_actor.look_again()
        super().set_training_mode(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """torch's own, of which ``to``, ``cpu`` and ``cuda`` are made."""
        if self._lean_actor is not None:
            self._lean_actor.look_again()
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]


def wants_gradient(obs: Any) -> bool:
    """
    Whether autograd follows observations.

    :param obs: a tensor, or for Dict observations one for each key
    """
    tensors = obs.values() if isinstance(obs, dict) else (obs,)
    return any(tensor.requires_grad for tensor in tensors)


def _forget_update(distribution: Any) -> None:
    """SB3's distribution keeps the last minibatch's graph until it acts again. With it, no policy can be copied."""
    for name, nothing in (("distribution", None), ("distributions", [])):
        if name in vars(distribution):
            setattr(distribution, name, nothing)
