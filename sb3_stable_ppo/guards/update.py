"""
One ``train()`` of SB3 with its inputs guarded.

``train`` takes its minibatches from ``rollout_buffer.get`` and its log-probabilities from ``policy.evaluate_actions``.
While a :class:`GuardedUpdate` is entered, and only then, both are shadowed. ``get`` normalises the advantages (the very
arithmetic of ``train``, whose own is switched off meanwhile) and remembers ``old_log_prob``. ``evaluate_actions``
bounds the log-ratio that ``train`` is about to exponentiate. A hook of the optimizer skips steps whose gradient is not
finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import sb3_contrib
import stable_baselines3
import torch as th

from sb3_stable_ppo.common.patching import patched, uncompiled
from sb3_stable_ppo.common.tensors import all_finite, first_nonfinite
from sb3_stable_ppo.guards.arithmetic import finite_or_zero, guard_log_prob, normalize_advantages
from sb3_stable_ppo.guards.checked_env import WarnOnce
from sb3_stable_ppo.guards.config import GuardConfig
from sb3_stable_ppo.guards.reading import row_mask
from sb3_stable_ppo.metrics.kl import approx_kl, first_ratio_error

# An error, not a warning: train() would not only be unguarded, but also leave the advantages as they are, since its
# own normalisation is switched off
UNGUARDED = (
    "train() has taken no minibatch from rollout_buffer.get and policy.evaluate_actions, which the guards stand in "
    f"for, so nothing was guarded. stable-baselines3 {stable_baselines3.__version__} or sb3-contrib "
    f"{sb3_contrib.__version__} has another train(): install the versions that sb3-stable-ppo asks for, or train "
    "without guards (guards=None)."
)


class GuardedUpdate:
    """
    A context in which ``model``'s ``train()`` is guarded, and what the guards saw in it.

    :param model: PPO, MaskablePPO or RecurrentPPO
    :param guards: the bounds
    :param warn_once: takes a kind of event and a sentence about it, for the user
    :param check_gradients: look at each gradient before its step, which small networks feel. A step on a gradient that
        is not finite leaves weights that are not, so where an update can be undone it is enough to look at those
    """

    def __init__(self, model: Any, guards: GuardConfig, warn_once: WarnOnce, check_gradients: bool = True) -> None:
        self.check_gradients = check_gradients
        self.model, self.guards, self.warn_once = model, guards, warn_once
        self.policy = uncompiled(model.policy)
        self.normalize = model.normalize_advantage
        self.min_advantage_std = guards.min_advantage_std * model._reward_scale
        self.parameters = dict(self.policy.named_parameters())
        self.original_get = model.rollout_buffer.get
        self.original_evaluate_actions = self.policy.evaluate_actions
        self.rows = self.clamped = self.nonfinite = self.steps = self.skipped_steps = 0
        self.advantage_std_skips = 0
        """Minibatches whose advantages were not normalised; known when ``train`` has ended."""
        self.first_ratio_error: float | None = None
        self.first_bad = ""
        self.samples: Any = None
        """The last minibatch, or the first in which something was not finite."""
        self._raw_log_ratios: list[th.Tensor] = []
        self._are_flat: list[th.Tensor] = []
        self._old_log_prob = th.empty(0)
        self._all_old_finite = bool(th.isfinite(th.as_tensor(model.rollout_buffer.log_probs)).all())
        self._broken: th.Tensor | None = None
        self._bad_gradient: str | None = None
        self._mask: th.Tensor | None = None

    def __enter__(self) -> GuardedUpdate:
        self._undo = ExitStack()
        self._undo.enter_context(patched(self.model, "normalize_advantage", False))
        self._undo.enter_context(patched(self.model.rollout_buffer, "get", self.get))
        self._undo.enter_context(patched(self.policy, "evaluate_actions", self.evaluate_actions))
        if self.check_gradients:
            self._undo.callback(self.policy.optimizer.register_step_pre_hook(self.before_step).remove)
            for name, parameter in self.parameters.items():
                if parameter.requires_grad:
                    hook = partial(self._look_at_gradient, name)
                    self._undo.callback(parameter.register_post_accumulate_grad_hook(hook).remove)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """
        :raises RuntimeError: if ``train`` has ended without the two methods that are shadowed
        """
        self._undo.close()
        self._count_flat_advantages()
        if kind is None and self.rows == 0:
            raise RuntimeError(UNGUARDED)

    @property
    def raw_approx_kl(self) -> float:
        """``approx_kl`` of the last epoch, as SB3 logs it, but from log-ratios that were not clamped."""
        finite = [log_ratio[th.isfinite(log_ratio)] for log_ratio in self._raw_log_ratios]
        kls = [approx_kl(log_ratio) for log_ratio in finite if log_ratio.numel()]
        return float(th.stack(kls).mean()) if kls else 0.0

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        """In place of ``rollout_buffer.get``."""
        self._raw_log_ratios.clear()  # each epoch calls get once
        for samples in self.original_get(batch_size):
            if not self.first_bad:
                self.samples = samples
            changes: dict[str, th.Tensor] = {}
            self._mask = row_mask(samples)
            # One sample has no standard deviation: SB3's GH#325, which sb3-contrib has not taken over
            rows = len(samples.advantages) if self._mask is None else int(self._mask.sum())
            if self.normalize and rows > 1:
                advantages, is_flat = normalize_advantages(samples.advantages, self.min_advantage_std, self._mask)
                changes["advantages"] = advantages
                self._are_flat.append(is_flat)
            self._old_log_prob = samples.old_log_prob
            if not self._all_old_finite:
                self._old_log_prob, self._broken = finite_or_zero(samples.old_log_prob)
                changes["old_log_prob"] = self._old_log_prob
            yield samples._replace(**changes) if changes else samples

    def evaluate_actions(self, *args: Any, **kwargs: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """In place of ``policy.evaluate_actions``."""
        if self.samples is None:
            raise RuntimeError(UNGUARDED)
        values, log_prob, entropy = self.original_evaluate_actions(*args, **kwargs)
        if self._broken is not None:
            log_prob = th.where(self._broken, math.nan, log_prob)
        rows = log_prob.numel()
        if self._mask is not None:
            rows = int(self._mask.sum())
            if not bool(
                ((log_prob.detach() - self._old_log_prob).abs() <= self.guards.max_log_ratio)[~self._mask].all()
            ):
                log_prob = th.where(self._mask, log_prob, self._old_log_prob)  # padding is no row, and none is counted
        if self.first_ratio_error is None:
            pair = (log_prob, self._old_log_prob)
            self.first_ratio_error = first_ratio_error(
                *(pair if self._mask is None else (values[self._mask] for values in pair))
            )
        guarded = guard_log_prob(log_prob, self._old_log_prob, self.guards)
        self.rows += rows
        self.clamped += guarded.clamped
        self.nonfinite += guarded.nonfinite
        log_ratio = guarded.raw_log_ratio
        self._raw_log_ratios.append(log_ratio if self._mask is None else log_ratio[self._mask])
        if guarded.nonfinite:
            self._note("log-ratios", f"log-ratios: {guarded.nonfinite} of {rows} are not finite")
        if entropy is None and guarded.log_prob is not log_prob:
            # PPO estimates a missing entropy by -log_prob: the clamp must not change that estimate
            entropy = -th.where(th.isfinite(log_prob), log_prob, guarded.log_prob)
        return values, guarded.log_prob, entropy

    def before_step(self, optimizer: th.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ARG002
        """Before each ``optimizer.step``: without finite gradients it has nothing to do."""
        self.steps += 1
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        if all_finite(list(gradients.values())):
            return
        self.skipped_steps += 1
        self._note("gradients", f"gradient of {self._bad_gradient or first_nonfinite(gradients)}")
        self._bad_gradient = None
        for parameter in self.parameters.values():
            parameter.grad = None  # None, not zero: Adam would still move on its momentum

    def _look_at_gradient(self, name: str, parameter: th.Tensor) -> None:
        """As backward reaches a parameter, from the output on: the clipping to come spreads one NaN to all of them."""
        if self._bad_gradient is None and parameter.grad is not None and not all_finite([parameter.grad]):
            self._bad_gradient = first_nonfinite({name: parameter.grad})

    def _count_flat_advantages(self) -> None:
        """Once for all minibatches: each look at a number on a GPU waits for all that was asked of it before."""
        self.advantage_std_skips = int(th.stack(self._are_flat).sum()) if self._are_flat else 0
        if self.advantage_std_skips == 0:
            return
        self.warn_once(
            "advantages",
            f"The advantages of a minibatch have a standard deviation below {self.min_advantage_std:g} and are not "
            "normalised. Rewards that never differ do this: check that the env rewards anything. Where its rewards are "
            "very small, normalise them (VecNormalize), or lower min_advantage_std.",
        )

    def _note(self, kind: str, text: str) -> None:
        self.first_bad = self.first_bad or text
        self.warn_once(kind, f"{text}.")
