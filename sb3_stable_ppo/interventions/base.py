"""
What all interventions have in common: they find the optimizers, know when to act, and leave no trace when they end.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, ClassVar
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch.utils.hooks import RemovableHandle

from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.log_formats import TABLE
from sb3_stable_ppo.guards.one_learn import OneLearn
from sb3_stable_ppo.health.callback import HealthCallback
from sb3_stable_ppo.interventions.memory import memory_of
from sb3_stable_ppo.interventions.triggers import KINDS, Trigger
from sb3_stable_ppo.probes.learners import Learner, learners_of
from sb3_stable_ppo.runs.interval import UpdateCounter

LOG_EVERY = 1000
"""Environment steps between two logged figures of an off-policy algorithm, which updates at each step."""
EVERY_UPDATE = Trigger("every_updates", 1)
_hooks: WeakKeyDictionary[th.optim.Optimizer, list[tuple[OneLearn, RemovableHandle]]] = WeakKeyDictionary()
"""With the call of ``learn()`` that they are for: a run that broke off could not take its own away."""


class Intervention(BaseCallback):
    """
    Base of the callbacks that repair a network, or keep it able to learn, while any algorithm of SB3 or sb3-contrib
    trains it. ``train()`` stays SB3's own.

    Two moments are open to a subclass. :meth:`after_step` runs behind each step of an optimizer (torch's
    ``register_step_post_hook``). :meth:`act` runs between two updates, when the policy is about to act again: SB3's
    ``_on_rollout_start``. Several interventions act in the order of the callback list. Guards come first: where they
    have skipped a step, nothing runs behind it, and an update that they undo takes back what was done in it.

    What a subclass remembers is in ``self.memory``, which is kept with the model.

    :param when: ``"always"``, ``{"every_updates": N}`` or ``{"on_alarm": "inactive_layer"}``: any alarm of
        HealthCallback, or a list of them; it then acts once each time that one is raised
    :param verbose: SB3's verbosity
    :raises ValueError: for an unknown ``when``; when training starts, for an algorithm that it cannot serve
    """

    kinds: ClassVar[tuple[str, ...]] = KINDS
    """What ``when`` may be."""

    def __init__(self, when: Any = "always", verbose: int = 0) -> None:
        super().__init__(verbose)
        self.trigger = Trigger.of(when, self.kinds)
        self._updates = UpdateCounter()
        self._logged_at = 0
        self._has_begun = False
        self._health: HealthCallback | None = None
        self._step_hooks: list[RemovableHandle] = []
        self.learners: list[Learner] = []

    # -- for subclasses ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """
        Before training: whether the model can be served.

        :raises ValueError: if not, naming what is possible
        """

    def begin(self) -> None:
        """When training starts; ``self.learners`` and ``self.memory`` are there."""

    def after_step(self, learner: Learner) -> None:
        """
        Behind a step of an optimizer, without gradients; only with ``when="always"``.

        :param learner: whose step it was; parameters without ``grad`` were not moved, and are not to be touched
        """

    def act(self) -> bool | None:
        """
        Between two updates, without gradients; only with a trigger.

        :return: False if there was nothing to do
        """

    def is_ready(self) -> bool:
        """Whether there is what :meth:`act` needs; if not, it is asked again after the next update."""
        return True

    def postpone(self) -> None:
        """
        Training ends while it is due, so that :meth:`act` comes when the run goes on, perhaps with another callback of
        this class: remember what it will need. Without gradients.
        """

    def before_update(self) -> None:
        """Before an update: a rollout has ended. Of on-policy algorithms the rollout buffer is full."""

    def after_update(self) -> None:
        """After an update: the next rollout starts, or training ends."""

    def figures(self) -> dict[str, float]:
        """What is logged under ``interventions/<name>/``: after each update, off-policy every 1000 steps."""
        return {}

    # -- the rest is the same for all ----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The class's; the second of a class in a run is ``L2Init_2``."""
        alike = [each for each in callbacks_within(self.locals.get("callback")) if type(each) is type(self)]
        number = alike.index(self) + 1 if self in alike else 1
        return type(self).__name__ + (f"_{number}" if number > 1 else "")

    @property
    def is_new_run(self) -> bool:
        """Whether this ``learn()`` begins a run, or goes on with one (``reset_num_timesteps=False``)."""
        return bool(self.locals.get("reset_num_timesteps", True))

    @property
    def memory(self) -> dict[str, Any]:
        """What it remembers from one update to the next: tensors and numbers by name, looked up each time."""
        return memory_of(self.model, self._name)

    def _on_training_start(self) -> None:
        if isinstance(self.parent, EventCallback):
            raise ValueError(
                f"{type(self).__name__} does nothing within {type(self.parent).__name__}, which tells it of steps "
                "alone. Give it to learn() beside the other callbacks."
            )
        self._has_begun = False
        self.learners = learners_of(self.model)
        if not self.learners:
            raise ValueError(
                f"{type(self).__name__} needs an optimizer, and {type(self.model).__name__} has none: leave "
                f"{type(self).__name__} out."
            )
        self._warn_of_trpo()
        self.check()
        self._name = self.name
        self._updates.begin(self.model)
        self._logged_at = self.num_timesteps
        self._find_health()
        self._forget_what_is_past()
        self.begin()
        self._attach()
        self._has_begun = True

    def _forget_what_is_past(self) -> None:
        """What fell due with another trigger, or before a stretch without it; and the alarms of a run that is over."""
        memory = self.memory
        if memory.get("is_due", 1) not in (1, str(self.trigger)) or memory.get("due_at") != self.model._n_updates:
            memory.pop("is_due", None)
        if self.is_new_run:
            memory.pop("alarms", None)

    def _warn_of_trpo(self) -> None:
        if any(cls.__name__ == "TRPO" for cls in type(self.model).__mro__):
            warnings.warn(
                f"TRPO sets the weights of its actor without an optimizer: {type(self).__name__} reaches those of the "
                "critic alone at each step.",
                stacklevel=2,
            )

    def _find_health(self) -> None:
        found = [each for each in callbacks_within(self.locals.get("callback")) if isinstance(each, HealthCallback)]
        self._health = found[0] if found else None
        if self.trigger.kind != "on_alarm":
            return
        own, running = type(self).__name__, list(callbacks_within(self.locals.get("callback")))
        if self._health is not None and self in running and running.index(self) < running.index(self._health):
            raise ValueError(
                f"{own} waits for an alarm, and HealthCallback, which raises it, stands behind {own} in the list of "
                f"callbacks, so that it would come an update late. Put HealthCallback before {own}."
            )
        if self._health is None:
            raise ValueError(
                f"{type(self).__name__} waits for an alarm, and nobody raises one: put HealthCallback(budget=None) "
                "before it in the list of callbacks."
            )
        if self._health.budget is not None:
            raise ValueError(
                f"{type(self).__name__} waits for an alarm, and HealthCallback measures as its time allows, so that "
                "two runs of one seed would differ. Let it measure at fixed updates: HealthCallback(budget=None)."
            )

    def _attach(self) -> None:
        self._detach()
        learn, own = OneLearn(self.model), ref(self)
        for learner in self.learners:
            hooks = _hooks.setdefault(learner.optimizer, [])
            for other, handle in hooks:
                if other.is_over():
                    handle.remove()
            hooks[:] = [(other, handle) for other, handle in hooks if not other.is_over()]
            if self.trigger.kind == "always":
                handle = learner.optimizer.register_step_post_hook(partial(_stepped, own, learner, learn))
                self._step_hooks.append(handle)
                hooks.append((learn, handle))

    def _detach(self) -> None:
        for handle in self._step_hooks:
            handle.remove()
        self._step_hooks = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.before_update()

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        if self._has_begun:  # rl_zoo3 calls it even where training has not
            self._look(is_over=True)
            self._detach()

    def _look(self, is_over: bool = False) -> None:
        """
        :param is_over: nothing learns any more, so that a repair would only do harm
        """
        memory = self.memory
        has_updated = self._updates.look()
        if has_updated:
            self.after_update()
            memory["updates"] = memory.get("updates", 0) + 1
            if self._is_due(memory["updates"]):
                memory["is_due"] = str(self.trigger)
        if "is_due" in memory:
            memory["due_at"] = self.model._n_updates
        if "is_due" in memory and self.is_ready():
            with th.no_grad():
                if is_over:
                    self.postpone()
                else:
                    self._act()
        if not has_updated:
            return
        every = LOG_EVERY if isinstance(self.model, OffPolicyAlgorithm) else 0
        if self.num_timesteps - self._logged_at >= every:
            self._logged_at = self.num_timesteps
            for name, value in self.figures().items():
                tag = f"interventions/{self._name}/{name}"
                self.logger.record(tag, value, exclude=TABLE)  # the table cuts long names of layers short

    def _act(self) -> None:
        memory = self.memory
        del memory["is_due"], memory["due_at"]
        if self.act() is not False:
            memory["acted"] = memory.get("acted", 0) + 1
            self._tell()

    def _is_due(self, count: int) -> bool:
        if self.trigger.kind == "every_updates":
            return count % self.trigger.number == 0
        if self.trigger.kind == "always" or self._health is None:
            return False
        raised = {name: event.step for name, event in self._health.alarms.active.items() if name in self.trigger.alarms}
        seen = self.memory.get("alarms", {})
        self.memory["alarms"] = raised
        return any(seen.get(name) != step for name, step in raised.items())

    def _tell(self) -> None:
        """In SB3's log, and in ``health.jsonl``, which the report draws its time axis from."""
        self.logger.record(f"interventions/{self._name}/acted", self.memory["acted"])
        if self._health is not None and self.trigger != EVERY_UPDATE:  # so many marks would tell nothing
            self._health.mark(self._name, f"{self._name} acted ({self.trigger})")
        if self.verbose:
            print(f"{self._name} acted at step {self.num_timesteps:,} ({self.trigger}).")


def _stepped(own: ReferenceType[Intervention], learner: Learner, learn: OneLearn, *_: Any) -> None:
    """The hook behind a step, which does not keep the callback alive."""
    callback = own()
    if callback is None or learn.is_over():
        return
    if any(weight.parameter.grad is not None for weight in learner.weights):  # None: guards have skipped the step
        with th.no_grad():
            callback.after_step(learner)
