"""
What callbacks have found out so far: SB3's and ours by attributes that are known here, others by ``state_dict`` and
``load_state_dict``, where they have them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo.checkpoints.env_state import env_state, set_env_state
from sb3_stable_ppo.common.errors import described

KNOWN: dict[str, tuple[str, ...]] = {
    "BaseCallback": ("n_calls",),
    "EventCallback": (),
    "CheckpointCallback": (),
    "EvalCallback": (
        "best_mean_reward",
        "last_mean_reward",
        "evaluations_results",
        "evaluations_timesteps",
        "evaluations_length",
        "evaluations_successes",
        "_is_success_buffer",
    ),
    "MaskableEvalCallback": (),
    "EveryNTimesteps": ("last_time_trigger",),
    "LogEveryNTimesteps": (),
    "StopTrainingOnRewardThreshold": (),
    "StopTrainingOnMaxEpisodes": ("n_episodes",),
    "StopTrainingOnNoModelImprovement": ("last_best_mean_reward", "no_improvement_evals"),
    "ProgressBarCallback": (),
    "LRSchedulerCallback": (),  # the count is the schedule's, which is the model's
    "StopTrainingOnReturn": ("is_reached", "_returns", "_is_warned"),
    "Intervention": ("_logged_at", "_updates.count"),
    "AdamReset": ("_n_copies",),
    "ReDo": ("_batches",),
    "ReGraMa": ("_gradients",),
    "HealthCallback": (
        "n_measured",
        "n_rollouts",
        "alarms.active",
        "alarms.comparisons",
        "alarms._streaks",
        "alarms._early_norms",
        "alarms._peak_srank",
        "_measured_at",
        "_initial",
        "_pool",
        "_marks",
        "_asked_to_stop",
        "_updates.count",
        "_last_healthy._state",
        "_last_healthy._saved_step",
        "_last_healthy._is_before_update",
        "_budget.elapsed",
        "_budget.spent",
        "_budget.thorough_cost",
        "_budget._spent_at_end",
        "_budget._n_measured",
        "_budget._since_thorough",
    ),
    "GuardCallback": (
        "skipped_steps",
        "restored",
        "nonfinite_rewards",
        "nonfinite_observations",
        "_warned",
        "_steps",
        "_skips",
        "_in_a_row",
        "_unchecked_steps",
        "_last_event",
        "_last_good._copy",
        "_updates.count",
    ),
    "ActivationSnapshotCallback": (
        "interval",
        "next_step",
        "last_step",
        "observation",
        "scales",
        "motion",
        "candidate",
        "_updates.count",
    ),
    "ProgressLines": ("_returns", "_every", "_next", "_written"),
    "ValueNormCallback": (),
    "SaveVecNormalizeCallback": (),
    "TrialEvalCallback": ("eval_idx", "is_pruned"),
    "RawStatisticsCallback": ("_timesteps_counter",),
}
"""By class: the attributes that change in training. A dotted name is that of an attribute's attribute."""
UPSTREAM = ("stable_baselines3", "sb3_contrib", "rl_zoo3")
MISSING = object()


def stateful_callbacks(callback: Any) -> list[BaseCallback]:
    """
    All that have a state, in the order in which SB3 calls them; lists themselves have none, nor do checkpoints.

    :param callback: what ``learn()`` was given, or its ``locals["callback"]``
    """
    return [each for each in _within(callback) if not isinstance(each, CallbackList) and not _is_empty(each)]


def callback_states(callbacks: list[BaseCallback]) -> tuple[list[dict[str, Any]], list[str]]:
    """
    :param callbacks: of :func:`stateful_callbacks`
    :return: the state of each, and what cannot be saved, in words
    """
    states, problems = [], []
    for callback in callbacks:
        name = type(callback).__name__
        attributes = {}
        for attribute in _known(callback):
            value = _get(callback, attribute)
            if value is MISSING:
                continue
            problem = _unpicklable(value)
            if problem is None:
                attributes[attribute] = value
            else:
                problems.append(f"{attribute} of {name} cannot be saved ({problem})")
        state: dict[str, Any] = {"class": name, "attributes": attributes}
        if _has_state_dict(callback):
            own, problem = _own_state(callback)
            if problem is None:
                state["own"] = own
            else:
                problems.append(f"the state_dict() of {name} cannot be saved ({problem})")
        elif not _is_wholly_known(callback):
            problems.append(
                f"what {name} remembers is not saved, as it has no state_dict() and load_state_dict(), by which a "
                "checkpoint would keep it"
            )
        if isinstance(callback, EvalCallback):
            saved = env_state(callback.eval_env)
            state["eval_env"] = saved.content
            problems += [f"evaluation env: {problem}" for problem in saved.problems]
        states.append(state)
    return states, problems


def set_callback_states(callbacks: list[BaseCallback], states: list[dict[str, Any]]) -> None:
    """
    :param callbacks: of the run that goes on, when training has started
    :param states: of :func:`callback_states`
    """
    left = list(callbacks)
    lost = []
    for state in states:
        callback = next((each for each in left if type(each).__name__ == state["class"]), None)
        if callback is None:
            lost.append(state["class"])
            continue
        left.remove(callback)
        for attribute, value in state["attributes"].items():
            path, _, name = attribute.rpartition(".")
            owner = _get(callback, path) if path else callback
            if owner is not MISSING and owner is not None:  # a callback that has nothing to do makes no parts
                setattr(owner, name, value)
        if "own" in state:
            callback.load_state_dict(state["own"])  # type: ignore[attr-defined]
        if "eval_env" in state and isinstance(callback, EvalCallback) and isinstance(callback.eval_env, VecEnv):
            set_env_state(callback.eval_env, state["eval_env"])
    told = [f"{name} is missing" for name in lost] + [f"{type(each).__name__} is new" for each in left]
    if told:
        warnings.warn(
            f"The callbacks differ from those of the checkpoint: {', '.join(told)}. To go on exactly, give those of "
            "the first run.",
            stacklevel=2,
        )


def _within(callback: Any) -> Iterator[BaseCallback]:
    if isinstance(callback, BaseCallback):
        yield callback
    inner = (*getattr(callback, "callbacks", ()), *(getattr(callback, name, None) for name in CHILDREN))
    for child in callback if isinstance(callback, (list, tuple)) else inner:
        if isinstance(child, (BaseCallback, list, tuple)):
            yield from _within(child)


CHILDREN = ("callback_on_new_best", "callback")
"""Where SB3's event callbacks keep others; EvalCallback has both."""


def _is_empty(callback: BaseCallback) -> bool:
    is_no_function = isinstance(callback, ConvertCallback) and callback.callback is None
    names = {cls.__name__ for cls in type(callback).__mro__}
    return is_no_function or not names.isdisjoint(("RunCheckpoint", "ProgressBarCallback"))


def _known(callback: BaseCallback) -> list[str]:
    return [name for cls in type(callback).__mro__ for name in KNOWN.get(cls.__name__, ())]


def _is_wholly_known(callback: BaseCallback) -> bool:
    cls, parent = type(callback), callback.parent
    if cls is ConvertCallback:  # LogEveryNTimesteps has made it; else it is a user's function
        return type(parent).__name__ == "LogEveryNTimesteps"
    if cls.__module__.partition(".")[0] in UPSTREAM:
        return cls.__name__ in KNOWN
    ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
    return ours and any(each.__name__ in KNOWN for each in cls.__mro__ if each is not BaseCallback)


def _has_state_dict(callback: BaseCallback) -> bool:
    return hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict")


def _own_state(callback: Any) -> tuple[Any, str | None]:
    """:return: what its ``state_dict()`` gives, and why it cannot be saved, in words, or None"""
    try:
        own = callback.state_dict()
    except Exception as error:  # a user's code
        return None, described(error, 100)
    return own, _unpicklable(own)


def _get(owner: Any, attribute: str) -> Any:
    try:
        return attrgetter(attribute)(owner)
    except AttributeError:
        return MISSING


def _unpicklable(value: Any) -> str | None:
    try:
        th.save(value, io.BytesIO())
    except Exception as error:  # whatever the object's own code raises
        return described(error, 100)
    return None
