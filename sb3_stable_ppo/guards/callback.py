"""
The guards that any algorithm of SB3 and sb3-contrib can have, as a callback.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.utils.hooks import RemovableHandle

from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.checks import one_of, whole_number
from sb3_stable_ppo.common.errors import CollapseError
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.common.log_formats import record_count
from sb3_stable_ppo.common.tensors import all_finite, first_nonfinite
from sb3_stable_ppo.guards.checked_env import normalizer_hint
from sb3_stable_ppo.guards.checked_step import CheckedStep, places_of, remove_leftovers
from sb3_stable_ppo.guards.config import CURE_OF_SKIPS, ON_NONFINITE_OBS, GuardConfig
from sb3_stable_ppo.guards.last_good import LastGood
from sb3_stable_ppo.guards.mixin import GuardMixin
from sb3_stable_ppo.guards.one_learn import OneLearn
from sb3_stable_ppo.runs.interval import UpdateCounter

_hooks: WeakKeyDictionary[th.optim.Optimizer, RemovableHandle] = WeakKeyDictionary()
"""The last of each: a run that broke off could not take its own away."""
WEIGHTS = "weights"


@public
class GuardCallback(BaseCallback):
    """
    Keeps NaN and infinity out of SAC, TD3, TQC, CrossQ, DQN, QR-DQN, A2C, PPO and the other on- and off-policy
    algorithms of SB3 and sb3-contrib. Where all numbers are finite, training stays bit for bit as it was.

    >>> model.learn(100_000, callback=GuardCallback(on_nonfinite_obs="repeat_last"))  # doctest: +SKIP

    Observations and rewards are checked as the env gives them, below ``VecNormalize`` too: a bad reward becomes 0.
    (``Monitor`` sits deeper and still logs it.) The step of an optimizer on a gradient that is not finite is skipped.
    Weights are looked at before the policy acts with them, and where they are not finite, the last good ones come back:
    the policy with its targets and buffers, all optimizers, SAC's entropy coefficient. The networks that act are
    looked at after each update, all else every ``check_every`` steps and after each step that was skipped.

    What a callback cannot do: where a distribution is built from NaN within ``train()``, torch raises a ValueError, and
    nobody can catch it in between. So the weights are checked before that; what breaks them in the middle of a
    ``train()`` with several gradient steps, or breaks ``log_std`` with ``use_sde=True``, still ends the run.

    SB3's log has, since the last line of it: ``guards/skipped_steps``, ``guards/restored``,
    ``guards/nonfinite_rewards``, ``guards/nonfinite_observations``. The sums over all runs are attributes of the same
    names. :class:`StablePPO` and its siblings have guards of their own: there it does nothing.

    :param on_nonfinite_obs: what an observation that is not finite does: ``raise`` a CollapseError, or let the env
        ``repeat_last``
    :param check_every: steps of the optimizers, all together, from one look at everything to the next; a copy of it is
        taken then, the one to be restored
    :param max_consecutive_skips: after so many updates in a row in which an optimizer's every step was skipped, or
        after which the weights were restored, training stops with a CollapseError
    :param verbose: 1 prints each event; a warning tells of the first of each kind
    :raises ValueError: for an unknown word or a number out of range; when training starts, for an algorithm without
        rollouts (ARS)
    :raises CollapseError: when training starts, for weights or statistics of VecNormalize that are not finite
    """

    def __init__(
        self,
        on_nonfinite_obs: str = "raise",
        check_every: int = 300,
        max_consecutive_skips: int = 10,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.on_nonfinite_obs = one_of(on_nonfinite_obs, ON_NONFINITE_OBS, "on_nonfinite_obs")
        self.check_every = whole_number(check_every, "check_every", least=1)
        self.max_consecutive_skips = whole_number(max_consecutive_skips, "max_consecutive_skips", least=1)
        self.skipped_steps = self.restored = self.nonfinite_rewards = self.nonfinite_observations = 0
        self._warned: set[str] = set()
        self._checks: list[CheckedStep] = []
        self._handles: list[RemovableHandle] = []
        self._last_good: LastGood | None = None

    # -- begin and end -------------------------------------------------------------------------------------------------

    def _on_training_start(self) -> None:
        self._end()
        name = type(self.model).__name__
        if isinstance(self.parent, EventCallback):
            raise ValueError(
                f"GuardCallback does nothing within {type(self.parent).__name__}, which tells it of steps alone. Give "
                "it to learn() beside the other callbacks."
            )
        if not isinstance(self.model, (OnPolicyAlgorithm, OffPolicyAlgorithm)):
            raise ValueError(
                f"GuardCallback serves the on- and off-policy algorithms of SB3 and sb3-contrib, and {name} is "
                "neither: leave GuardCallback out."
            )
        if isinstance(self.model, GuardMixin) and GuardConfig.of(self.model.guards) is not None:
            return self._warn_once(
                "idle", f"{name} has guards of its own: GuardCallback does nothing, and can be left out."
            )
        others = (each for each in callbacks_within(self.locals.get("callback")) if isinstance(each, GuardCallback))
        if next(others, self) is not self:
            return self._warn_once("idle", "There is another GuardCallback before this one, which does nothing.")
        try:
            self._begin()
        except BaseException:
            self._end()
            raise

    def _begin(self) -> None:
        self._last_good = LastGood(self.model)
        problem = self._last_good.problem()
        if problem is not None:
            raise CollapseError(f"The model is broken before its training: {problem}. Load an earlier one.")
        self._learn = OneLearn(self.model)
        self._updates = UpdateCounter()
        self._updates.begin(self.model)
        self._acting = self._last_good.acting()
        optimizers = self._last_good.optimizers
        self._steps, self._skips = dict.fromkeys(optimizers, 0), dict.fromkeys(optimizers, 0)
        self._in_a_row = dict.fromkeys((*optimizers, WEIGHTS), 0)
        self._unchecked_steps, self._last_event = 0, ""
        for name, optimizer in optimizers.items():
            if optimizer in _hooks:
                _hooks[optimizer].remove()
            _hooks[optimizer] = optimizer.register_step_pre_hook(partial(self._before_step, name))
            self._handles.append(_hooks[optimizer])
        self._check_env()

    def _check_env(self) -> None:
        model: Any = self.model
        remove_leftovers(model.env)
        hint = normalizer_hint(model.env)
        if hint:
            raise CollapseError(
                f"Training cannot start:{hint} Load statistics from before, and check what env.reset() gives."
            )
        normalizer = model.get_vec_normalize_env()
        for place in places_of(model.env):
            check = CheckedStep(place, self.on_nonfinite_obs, self._learn, self._tell, self._end)
            self._checks.append(check)
            if place is model.env:
                model._last_obs = check.begin(model.num_timesteps, model._last_obs)
            elif normalizer is not None and place is normalizer.venv:
                model._last_original_obs = check.begin(model.num_timesteps, model._last_original_obs)
            else:
                check.begin(model.num_timesteps, None)

    def _end(self) -> None:
        """Give everything back; can be done more than once."""
        for check in self._checks:
            check.remove()
        for handle in self._handles:
            handle.remove()
        self._checks, self._handles, self._last_good = [], [], None

    # -- while it trains -----------------------------------------------------------------------------------------------

    def _before_step(self, name: str, optimizer: th.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        """Before each ``optimizer.step``: without gradients it has nothing to do."""
        if self._learn.is_over():
            return
        self._steps[name] += 1
        self._unchecked_steps += 1
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if all_finite([parameter.grad for parameter in parameters if parameter.grad is not None]):
            return
        self._skips[name] += 1
        self.skipped_steps += 1
        names = {id(parameter): each for each, parameter in self.model.policy.named_parameters()}
        bad = first_nonfinite({names.get(id(p), name): p.grad for p in parameters if p.grad is not None})
        self._last_event = f"gradient of {bad}"
        self._tell("gradients", f"{self._last_event}. The step of {name} is skipped.")
        for parameter in parameters:
            parameter.grad = None  # None, not zero: Adam would still move on its momentum

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        self._look(is_over=True)
        self._end()

    def _look(self, is_over: bool = False) -> None:
        """
        :param is_over: these are the weights that the user gets
        :raises CollapseError: if nothing comes of the updates any more, or if an env gives nothing finite
        """
        if self._last_good is None:
            return
        if not self._last_good.is_taken:  # not before: other callbacks have begun by now
            self._last_good.take()
        try:
            rewards = observations = skipped = restored = 0
            for check in self._checks:
                new = check.new_counts()
                rewards, observations = rewards + new[0], observations + new[1]
            self.nonfinite_rewards += rewards
            self.nonfinite_observations += observations
            if self._updates.look() or is_over:
                skipped = sum(self._skips.values())
                restored = self._look_at_weights(self._last_good, is_over or skipped > 0)
                self._count_in_a_row(restored > 0)
        except BaseException:
            self._end()
            raise
        record_count(self.logger, "guards/nonfinite_rewards", rewards)
        record_count(self.logger, "guards/nonfinite_observations", observations)
        record_count(self.logger, "guards/skipped_steps", skipped)
        record_count(self.logger, "guards/restored", restored)

    def _look_at_weights(self, last_good: LastGood, closely: bool) -> int:
        """
        :param closely: at all of them now
        :return: 1 if they had to be restored
        """
        is_due = self._unchecked_steps >= self.check_every
        problem = last_good.problem() if is_due or closely or not all_finite(self._acting) else None
        if problem is not None:
            last_good.restore()
            self.restored += 1
            self._last_event = problem
            self._tell(WEIGHTS, f"{problem}. The last good weights are restored.")
        elif is_due:
            last_good.take()
        if problem is not None or is_due:
            self._unchecked_steps = 0
            self._acting = last_good.acting()
        return int(problem is not None)

    def _count_in_a_row(self, is_restored: bool) -> None:
        for name, steps in self._steps.items():
            if steps:
                self._in_a_row[name] = self._in_a_row[name] + 1 if self._skips[name] == steps else 0
            self._steps[name] = self._skips[name] = 0
        self._in_a_row[WEIGHTS] = self._in_a_row[WEIGHTS] + 1 if is_restored else 0
        most = max(self._in_a_row.values())
        if most >= self.max_consecutive_skips:
            raise CollapseError(
                f"{most} updates in a row came to nothing; the last: {self._last_event}. {CURE_OF_SKIPS}"
            )

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell(self, kind: str, text: str) -> None:
        self._warn_once(kind, f"{text} Further occurrences are only counted, under guards/ in the log.")
        if self.verbose:
            print(f"GuardCallback, step {self.num_timesteps:,}: {text}")

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(text, stacklevel=3)
