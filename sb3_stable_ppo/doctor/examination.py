"""
``sb3-stable-ppo doctor``: what a saved model does in an env, and the verdict on it.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, unwrap_vec_normalize

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.doctor.diagnosis import diagnose
from sb3_stable_ppo.doctor.env_settings import env_settings
from sb3_stable_ppo.doctor.findings import Diagnosis
from sb3_stable_ppo.doctor.saved_models import load_model
from sb3_stable_ppo.doctor.untrusted_zip import read_weights
from sb3_stable_ppo.doctor.weights import diagnose_weights
from sb3_stable_ppo.envs.action_masks import InfoActionMasks
from sb3_stable_ppo.probes.rows import concat_batches, rows_of
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.statistics import statistics_of

N_ENVS = 4


def examine(
    path: Path, env_id: str | None, algo: str | None, rows: int, seed: int, weights_only: bool
) -> tuple[Diagnosis, str]:
    """
    Diagnose a saved model.

    :param path: its zip
    :param env_id: where it plays; None: its weights alone are looked at
    :param algo: its algorithm; None: it is found out
    :param rows: observations to collect
    :param seed: of the env
    :param weights_only: execute nothing that is in the zip
    :return: the diagnosis, and in a sentence what it is of
    :raises UsageError: if it cannot be loaded, or does not fit the env
    """
    if weights_only or env_id is None:
        tensors, facts = read_weights(path)
        shared = {tensor.data_ptr(): tensor.numel() for tensor in tensors.values()}  # one extractor, up to three names
        subject = f"{path}: its {sum(shared.values()):,} weights, without an env to see what the network does with them"
        return diagnose_weights(tensors, facts), subject
    model = load_model(path, algo)
    env = make_env(env_id, model, path, seed)
    try:
        model.set_random_seed(seed)
        observations, action_masks = collect(model, env, rows)
        model.env, model._vec_normalize_env = env, unwrap_vec_normalize(env)  # as SB3's set_env does, but for checks
        diagnosis = diagnose(model, observations, RunReader(path.parent).health(), action_masks)
    finally:
        env.close()
    size, steps = rows_of(observations), model.num_timesteps
    told = f"{path}: {type(model).__name__} after {steps:,} steps, {size} observations of {env_id}"
    normalizer, statistics = unwrap_vec_normalize(env), statistics_of(path, env_id)
    if statistics is not None and normalizer is not None and normalizer.norm_obs:
        told += f", normalised by {statistics.name}"
    return diagnosis, told


def make_env(env_id: str, model: BaseAlgorithm, path: Path, seed: int) -> VecEnv:
    """
    The env as the model has been trained in it: with the arguments and wrappers of the run that the model lies in,
    Atari preprocessed where the model takes such images, frames stacked. Observations are normalised by a
    ``vecnormalize.pkl`` that lies by the model, or by the file that SB3's CheckpointCallback writes for it: before they
    are stacked (as by rl_zoo3) or behind it, whichever its shape fits. MaskablePPO has action masks, where the env or
    its ``info`` has them.

    :param env_id: a Gymnasium id
    :param model: which will play
    :param path: its zip
    :param seed: of the first env
    :raises UsageError: if there is no such env, or its spaces are others
    """
    space = model.observation_space
    try:
        settings = env_settings(path, env_id)
        is_ale = str(gym.spec(env_id).entry_point).startswith("ale_py")
        wrapper = settings.wrapper
        if wrapper is None and is_ale and isinstance(space, spaces.Box) and len(space.shape) == 3:
            wrapper = AtariWrapper

        def masked(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
            return InfoActionMasks(env if wrapper is None else wrapper(env))

        env = make_vec_env(env_id, N_ENVS, seed, wrapper_class=wrapper, env_kwargs=settings.kwargs)
        if isinstance(model, MaskablePPO) and not is_masking_supported(env) and _tells_masks(env):
            env.close()
            env = make_vec_env(env_id, N_ENVS, seed, wrapper_class=masked, env_kwargs=settings.kwargs)
        if settings.vec_env_wrapper is not None:
            env = settings.vec_env_wrapper(env)
        statistics = None if settings.statistics is None else str(settings.statistics)
        if statistics is not None:
            with suppress(AssertionError):  # of another shape: they may be those of stacked observations
                env = VecNormalize.load(statistics, env)
        env = model._wrap_env(env)  # channels first, as SB3 has images, those in a Dict too
        n_stack = _n_stack(space, env.observation_space)
        if n_stack > 1:
            env = VecFrameStack(env, n_stack)
        normalizer = unwrap_vec_normalize(env)
        if statistics is not None and normalizer is None:
            env = normalizer = VecNormalize.load(statistics, env)
        if normalizer is not None:
            normalizer.training = False
        _check_spaces(env, model)
    except Exception as error:
        told = described(error).rstrip(".")
        end = "" if told.endswith("?") else "."
        raise UsageError(f"--env {env_id}: {told}{end} --weights-only examines the weights without an env.") from error
    return env


def _n_stack(wanted: spaces.Space[Any], seen: spaces.Space[Any]) -> int:
    """How often observations are to be stacked so that they have the model's shape; 1 where that does not help."""
    if isinstance(wanted, spaces.Dict) and isinstance(seen, spaces.Dict):
        return max((_n_stack(wanted[key], seen[key]) for key in wanted.keys() & seen.keys()), default=1)
    mine, theirs = wanted.shape or (), seen.shape or ()
    is_multiple = len(mine) == len(theirs) > 0 and mine[0] > theirs[0] and mine[0] % theirs[0] == 0
    return mine[0] // theirs[0] if is_multiple else 1


def _tells_masks(env: VecEnv) -> bool:
    """Whether the infos have what ``InfoActionMasks`` makes masks of."""
    env.reset()
    return all("action_mask" in info for info in env.reset_infos)


def _check_spaces(env: VecEnv, model: BaseAlgorithm) -> None:
    """:raises ValueError: if the spaces differ, asking what is most likely"""
    try:
        check_for_correct_spaces(env, model.observation_space, model.action_space)
    except ValueError as error:
        raise ValueError(f"{error}. Was the model trained in this env?") from error


def collect(model: BaseAlgorithm, env: VecEnv, rows: int) -> tuple[Any, Any]:
    """
    Observations of a model that plays as it would while it trains, every fourth step of each env; MaskablePPO with the
    masks of an env that has them.

    :param model: which plays
    :param env: where
    :param rows: how many are wanted
    :return: an array, or one by key, of so many rows or a few more; and the action masks of these rows, or None
    """
    found: list[Any] = []
    is_masked = isinstance(model, MaskablePPO) and is_masking_supported(env)
    observations: Any = env.reset()
    state, starts = None, np.ones(env.num_envs, dtype=bool)
    for step in range(4 * -(-rows // env.num_envs)):
        masks: dict[str, Any] = {"action_masks": get_action_masks(env)} if is_masked else {}
        if step % 4 == 0:
            found.append((copy.deepcopy(observations), masks.get("action_masks")))
        try:
            actions, state = model.predict(observations, state, starts, **masks)
        except ValueError:  # the policy puts out NaN: what was seen so far is enough to say so
            break
        observations, _, starts, _ = env.step(actions)
    rows_seen, masks_seen = zip(*found, strict=True)
    return concat_batches(list(rows_seen)), concat_batches(list(masks_seen))
