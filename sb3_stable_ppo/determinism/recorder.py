"""
The callback that records a run. It reads and hashes, draws no random number, and changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from torch.utils.hooks import RemovableHandle

from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.determinism import events as of
from sb3_stable_ppo.determinism.events import Event, Record
from sb3_stable_ppo.determinism.fingerprint import fingerprint
from sb3_stable_ppo.probes.learners import learners_of

DEFAULT_UPDATES = 3
IN_A_STEP = (
    (of.MASK, "action_masks"),
    (of.VALUE, "values"),
    (of.ACTION, "actions"),
    (of.LOG_PROB, "log_probs"),
    (of.REWARD, "rewards"),
    (of.DONE, "dones"),
)
"""What ``collect_rollouts`` computes in a step, in this order, and its local variables; off-policy has some of them."""
BY_THE_CLOCK = ("budget", "every_minutes")
"""Options of callbacks with which they act at other steps in each run."""


class RunRecorder(BaseCallback):
    """
    Records what a run does in its first updates, then ends it.

    It is the first of the callbacks, so that ``RunCheckpoint`` can be the last.

    :param n_updates: after so many calls of ``train()`` that moved an optimizer, the run ends in the next step
    :raises ValueError: if ``n_updates`` is below 1
    :raises UsageError: when training starts, for an algorithm without an optimizer
    """

    def __init__(self, n_updates: int = DEFAULT_UPDATES) -> None:
        super().__init__()
        self.n_updates = whole_number(n_updates, "n_updates", 1)
        self.record = Record([], {})
        self._handles: list[RemovableHandle] = []

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a run that is checked has no future, and RunCheckpoint has nothing to say of it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        :param state: of :meth:`state_dict`
        """

    def _on_training_start(self) -> None:
        self.record = Record([], self._facts())
        self._update = self._step = self._optimizer_steps = 0
        self._listen()
        self._random(of.START, 0)
        self._weights(of.START, 0)
        self._observation(of.START, 0, self.model._last_obs)

    def _on_rollout_start(self) -> None:
        self._end_update()

    def _on_step(self) -> bool:
        if self._update >= self.n_updates:
            return False
        for kind, name in IN_A_STEP:
            values = self.locals.get(name)
            if values is not None:
                self._add(of.ROLLOUT, self._step, kind, "", of.by_env(values))
        self._observation(of.ROLLOUT, self._step, self.locals["new_obs"])
        self._random(of.ROLLOUT, self._step)
        self._step += 1
        return True

    def _on_training_end(self) -> None:
        self._end_update()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _listen(self) -> None:
        names = {id(parameter): name for name, parameter in self.model.policy.named_parameters()}
        optimizers = {learner.name: learner.optimizer for learner in learners_of(self.model)}
        if getattr(self.model, "ent_coef_optimizer", None) is not None:  # SAC's and its kind's
            optimizers["ent_coef"] = self.model.ent_coef_optimizer  # type: ignore[attr-defined]
            names[id(self.model.log_ent_coef)] = "log_ent_coef"  # type: ignore[attr-defined]
        if not optimizers:
            name = type(self.model).__name__
            raise UsageError(f"A check of determinism follows the steps of an optimizer, and {name} has none.")
        for optimizer in optimizers.values():
            parameters = [
                (names.get(id(parameter), f"parameter {number}"), parameter)
                for number, parameter in enumerate(each for group in optimizer.param_groups for each in group["params"])
            ]
            self._handles.append(optimizer.register_step_post_hook(partial(self._after_step, parameters)))
            for name, parameter in parameters:
                keep = partial(self._gradient, name)
                self._handles.append(parameter.register_post_accumulate_grad_hook(keep))

    def _gradient(self, name: str, parameter: th.Tensor) -> None:
        """As ``backward`` leaves it: clipping then scales all of them by the norm of all."""
        assert parameter.grad is not None
        self._add(of.UPDATE, self._optimizer_steps, of.GRADIENT, name, of.whole(parameter.grad))

    def _after_step(self, parameters: list[tuple[str, th.Tensor]], *_: Any) -> None:
        for name, parameter in parameters:
            self._add(of.UPDATE, self._optimizer_steps, of.WEIGHT, name, of.whole(parameter))
        self._optimizer_steps += 1

    def _end_update(self) -> None:
        if self._optimizer_steps:
            self._weights(of.UPDATE, -1)
            self._random(of.UPDATE, -1)
            self._update, self._step, self._optimizer_steps = self._update + 1, 0, 0

    def _weights(self, phase: str, step: int) -> None:
        """Buffers too, such as BatchNorm's statistics, and target networks."""
        for name, tensor in self.model.policy.state_dict().items():
            if isinstance(tensor, th.Tensor):
                self._add(phase, step, of.WEIGHT, name, of.whole(tensor))

    def _observation(self, phase: str, step: int, observation: Any) -> None:
        by_key = observation if isinstance(observation, dict) else {"": observation}
        for key, values in by_key.items():
            self._add(phase, step, of.OBSERVATION, key, of.by_env(values))

    def _random(self, phase: str, step: int) -> None:
        for name, state in _random_states(self.model):
            self._add(phase, step, of.RANDOM, name, (of.of_text(state), ()))

    def _add(self, phase: str, step: int, kind: str, name: str, found: tuple[Any, Any]) -> None:
        self.record.events.append(Event(phase, self._update, step, kind, name, *found))

    def _facts(self) -> dict[str, Any]:
        config = getattr(self.model.policy, "fast_path_config", None)
        return {
            "seed": self.model.seed,
            "vec_env": type(self.training_env.unwrapped).__name__,
            "tries_compiling": getattr(config, "compile", None) == "auto",
            "by_the_clock": [
                f"{type(each).__name__}({option}={getattr(each, option)})"
                for each in callbacks_within(self.locals.get("callback"))
                for option in BY_THE_CLOCK
                if getattr(each, option, None) is not None
            ],
            **fingerprint(self.model.device),
        }


def _random_states(model: Any) -> Iterator[tuple[str, str]]:
    """By name, in words that tell two states apart."""
    yield "Python's global generator", repr(random.getstate())
    _, keys, position, *gauss = np.random.get_state()  # noqa: NPY002  # SB3 draws from it
    yield "NumPy's global generator", f"{np.asarray(keys).tobytes().hex()} {position} {gauss}"
    yield "torch's generator", th.get_rng_state().numpy().tobytes().hex()
    if model.device.type == "cuda":
        yield "the GPU's generator", th.cuda.get_rng_state(model.device).numpy().tobytes().hex()
    own = model.action_space._np_random
    yield "the action space's generator", repr(own and own.bit_generator.state)
