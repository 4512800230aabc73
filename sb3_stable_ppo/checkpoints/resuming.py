"""
The way back into a run from its newest sound checkpoint.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.checkpoints.callback import RunCheckpoint
from sb3_stable_ppo.checkpoints.env_state import set_env_state
from sb3_stable_ppo.checkpoints.folder import Checkpoint, newest_checkpoint, warn_of_other_owner
from sb3_stable_ppo.checkpoints.logs import ContinuedInterval, continued_logger, cut_logs
from sb3_stable_ppo.checkpoints.model_state import class_of_name, set_model_state
from sb3_stable_ppo.common.callbacks import callbacks_within
from sb3_stable_ppo.common.errors import UsageError


class Restored(NamedTuple):
    """
    A run that is ready to go on.

    :param model: as it was
    :param callback: for ``learn()``
    :param learn: the other arguments of ``learn()``, but ``total_timesteps`` and ``reset_num_timesteps``
    :param total_timesteps: at which the run was to end
    :param facts: the checkpoint's manifest
    """

    model: BaseAlgorithm
    callback: list[BaseCallback]
    learn: dict[str, Any]
    total_timesteps: int
    facts: dict[str, Any]


def resume(
    run_folder: str | Path,
    env: Any = None,
    callback: Any = None,
    total_timesteps: int | None = None,
    *,
    algorithm: type[BaseAlgorithm] | None = None,
    device: str | None = None,
) -> BaseAlgorithm:
    """
    Go on with a run that was killed, from its newest sound checkpoint, to its end.

    >>> env = make_vec_env("CartPole-v1", n_envs=8)  # doctest: +SKIP
    >>> model = resume("runs/cartpole", env, [EvalCallback(...), RunCheckpoint(every=50_000)])  # doctest: +SKIP

    Loading executes pickles: resume only what you trust.

    :param run_folder: the folder that RunCheckpoint has written to
    :param env: built as in the first run, with the same wrappers; its state is put back
    :param callback: those of the first run, built in the same way; their states are put back. Where RunCheckpoint is
        not among them, one with the settings of the first run is added
    :param total_timesteps: environment steps of the whole run, those before the checkpoint included; None: what the
        first run was to have
    :param algorithm: the model's class; None: that of the first run
    :param device: of the model; None: that of the first run
    :return: the trained model
    :raises UsageError: if there is no sound checkpoint, if it is of a newer version, or if the env is another
    """
    restored = restore(run_folder, env, callback, algorithm=algorithm, device=device)
    model = restored.model
    left = (restored.total_timesteps if total_timesteps is None else total_timesteps) - model.num_timesteps
    if left > 0:
        model.learn(left, callback=restored.callback, reset_num_timesteps=False, **restored.learn)
    return model


def restore(
    run_folder: str | Path,
    env: Any = None,
    callback: Any = None,
    *,
    algorithm: type[BaseAlgorithm] | None = None,
    device: str | None = None,
) -> Restored:
    """
    All of :func:`resume` but the training. The rest of the state, random states last, is put back within ``learn()``,
    which has to be called with ``reset_num_timesteps=False`` and what is returned here.

    :param run_folder: the folder that RunCheckpoint has written to
    :param env: built as in the first run
    :param callback: built as in the first run
    :param algorithm: the model's class; None: that of the first run
    :param device: of the model; None: that of the first run
    :raises UsageError: if there is no sound checkpoint, if it is of a newer version, or if the env is another
    """
    folder = Path(run_folder)
    checkpoint = newest_checkpoint(folder)
    if env is None:
        raise UsageError(
            f"The checkpoint {checkpoint.folder} holds the state of an env, not how it is built: give the env, built "
            "as in the first run, resume(run_folder, env)."
        )
    warn_of_other_owner(checkpoint.folder)
    facts = checkpoint.facts
    found = class_of_name(facts["algorithm"]) if algorithm is None else algorithm
    # With force_reset, SB3 would forget the observations that the next actions depend on.
    model = found.load(
        checkpoint.folder / "model.zip", env=env, device=device or _device(facts["device"]), force_reset=False
    )
    state = th.load(checkpoint.folder / "state.pt", map_location=model.device, weights_only=False)
    set_model_state(model, state["model"])
    _load_replay_buffer(model, checkpoint)
    _load_env(model, checkpoint)
    logs = state["logs"]
    cut_logs(logs, folder, checkpoint.folder / "logs")
    if logs["formats"]:
        is_asked = facts["is_asked_for_logs"]
        model.set_logger(continued_logger(logs, folder, checkpoint.step, state["iterations"], is_asked))
    learn = dict(facts["learn"])
    if isinstance(model, OnPolicyAlgorithm) and learn.get("log_interval"):
        learn["log_interval"] = ContinuedInterval(learn["log_interval"], state["iterations"])
    callbacks, run_checkpoint = _callbacks(callback, folder, facts)
    run_checkpoint.continue_from(state)
    if not facts["exact"]:
        warnings.warn(
            f"The run continues from step {checkpoint.step:,}, not bit for bit: {'; '.join(facts['not_saved'])}.",
            stacklevel=3,
        )
    return Restored(model, callbacks, learn, int(facts["total_timesteps"]), facts)


def _load_replay_buffer(model: BaseAlgorithm, checkpoint: Checkpoint) -> None:
    path = checkpoint.folder / "replay.pkl"
    if path.is_file() and isinstance(model, OffPolicyAlgorithm):
        # An env that goes on is in the middle of its trajectory; one that is reset has ended it.
        model.load_replay_buffer(path, truncate_last_traj=not checkpoint.facts["env_is_saved"])


def _load_env(model: BaseAlgorithm, checkpoint: Checkpoint) -> None:
    env = model.get_env()
    assert env is not None
    action_space = set_env_state(env, (checkpoint.folder / "env.pkl").read_bytes())
    if action_space is not None:
        model.action_space = action_space
    if not checkpoint.facts["env_is_saved"]:  # learn() resets it; by a seed of its own, not that of the run's start
        model._last_obs = None
        if model.seed is not None:
            env.seed(int(np.random.SeedSequence((model.seed, checkpoint.step)).generate_state(1)[0] // 2))


def _callbacks(callback: Any, folder: Path, facts: dict[str, Any]) -> tuple[list[BaseCallback], RunCheckpoint]:
    given = callback if isinstance(callback, (list, tuple)) else [] if callback is None else [callback]
    callbacks = [each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in given]
    for each in callbacks:
        for found in callbacks_within(each):
            if isinstance(found, RunCheckpoint):
                return callbacks, found
    settings = dict(facts["run_checkpoint"])
    if settings.get("every_minutes") == 0:  # which an earlier version took, and wrote at every update
        settings.update(every=1, every_minutes=None)
    added = RunCheckpoint(folder=folder, **settings)
    return [*callbacks, added], added


def _device(name: str) -> str:
    """That of the first run, where this machine has it."""
    kind = th.device(name).type
    module = getattr(th, kind, None)
    return name if kind == "cpu" or (module is not None and module.is_available()) else "auto"
