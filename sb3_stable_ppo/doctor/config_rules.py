"""
What is wrong in a model's configuration, before or after it did harm: known traps of SB3, each with its remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sb3_stable_ppo.doctor.findings import Finding
from sb3_stable_ppo.doctor.unusual_settings import unusual_settings
from sb3_stable_ppo.metrics.layers import BatchNorm
from sb3_stable_ppo.policies.input_norm import RunningInputNorm
from sb3_stable_ppo.policies.value_norm import NormalizedValue
from sb3_stable_ppo.schedules.learning_rate import counting_schedule

LARGE_REWARD = 10.0
"""A reward per step whose value losses outweigh everything else."""


def check_config(model: BaseAlgorithm, observations: Any = None) -> list[Finding]:
    """
    Warnings; none of them makes a network unhealthy by itself.

    :param model: any model of SB3 or sb3-contrib
    :param observations: a batch of them, for what only they can tell
    """
    found = [(rule.__name__.lstrip("_"), text) for rule in RULES for text in rule(model)]
    found += [("images_scaled_twice", text) for text in _images_scaled_twice(model, observations)]
    return [Finding(name, "warning", "", None, None, evidence, remedy) for name, (evidence, remedy) in found]


Told = Iterator[tuple[str, str]]


def _negative_learning_rate(model: Any) -> Told:
    """SB3 lets the progress go below zero in the last rollout (``_update_current_progress_remaining``)."""
    total, rollout = getattr(model, "_total_timesteps", 0), getattr(model, "n_steps", 1) * model.n_envs
    try:
        rate = _learning_rate_at(model, -0.01)
    except (TypeError, ValueError, ArithmeticError):  # such as a square root
        if total == 0 or total % rollout:
            yield (
                "The learning rate is not defined in the last rollout: unless the steps are a multiple of a rollout's, "
                "SB3 lets the remaining progress go below 0, and training ends in an error.",
                "Clamp the schedule: max(progress, 0), or use SB3's LinearSchedule or ours.",
            )
        return
    if rate is not None and rate < 0 and (total == 0 or total % rollout):
        yield (
            "The learning rate becomes negative in the last rollout: unless the steps are a multiple of a rollout's, "
            "SB3 lets the remaining progress go below 0.",
            "Clamp the schedule: max(progress, 0), or use SB3's LinearSchedule or ours.",
        )


def _vanishing_learning_rate(model: Any) -> Told:
    first, late = _learning_rate_at(model, 1.0), _learning_rate_at(model, 0.1)
    if first and late is not None and 0 <= late < 1e-4 * first:
        yield (
            "The learning rate vanishes before the run ends: with a tenth to go it is below 1e-4 of its start.",
            "Let it decay more slowly, or end the run there.",
        )


def _learning_rate_at(model: Any, progress: float) -> float | None:
    """Of a schedule of the remaining progress; None where it goes by something else, as ours that count updates."""
    schedule = getattr(model, "lr_schedule", None)
    if not callable(schedule) or counting_schedule(model.learning_rate) is not None:
        return None
    return float(schedule(progress))


def _one_sample_minibatch(model: Any) -> Told:
    batch, n_steps, n_envs = (getattr(model, name, None) for name in ("batch_size", "n_steps", "n_envs"))
    if isinstance(model, OnPolicyAlgorithm) and batch and n_steps and n_envs and (n_steps * n_envs) % batch == 1:
        yield (
            f"{n_steps} steps x {n_envs} envs leave a last minibatch of one sample (batch_size {batch}), whose "
            "advantage has no standard deviation: NaN in MaskablePPO and RecurrentPPO, noise in PPO.",
            "Choose a batch_size that divides n_steps x n_envs.",
        )


def _hidden_layers_nobody_asked_for(model: Any) -> Told:
    extractor, hidden = _own_extractor(model), getattr(model.policy, "mlp_extractor", None)
    if extractor is None or hidden is None or "net_arch" in (model.policy_kwargs or {}):
        return
    layers = list(getattr(hidden, "policy_net", ()))
    widths = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    if widths == [64, 64] and any(isinstance(layer, nn.Tanh) for layer in layers):
        yield (
            f"SB3 put a 64x64 tanh MLP behind {type(extractor).__name__}, as behind all extractors but NatureCNN.",
            "Say what you want: policy_kwargs=dict(net_arch=[]), or layers of your choice.",
        )


def _init_overwritten(model: Any) -> Told:
    extractor = _own_extractor(model)
    if extractor is not None and getattr(model.policy, "ortho_init", False):
        yield (
            f"SB3 re-initialised {type(extractor).__name__} with orthogonal weights, gain sqrt(2), whatever its own "
            "init or pretrained weights were.",
            "policy_kwargs=dict(ortho_init=False), or load pretrained weights after the model is built.",
        )


def _adam_eps_lost(model: Any) -> Told:
    kwargs = (model.policy_kwargs or {}).get("optimizer_kwargs")
    optimizer = getattr(model.policy, "optimizer", None)
    if isinstance(model, OnPolicyAlgorithm) and kwargs is not None and isinstance(optimizer, th.optim.Adam):
        eps = optimizer.defaults["eps"]
        if "eps" not in kwargs and eps < 1e-5:
            yield (
                f"Adam's eps is {eps:g}: SB3 sets its 1e-5 only where there are no optimizer_kwargs at all.",
                "Add eps: optimizer_kwargs=dict(eps=1e-5, ...). Our policies keep it.",
            )


def _frames_skipped_twice(model: Any) -> Told:
    env = model.get_env()
    if env is None:
        return
    try:
        spec = env.get_attr("spec", 0)[0]
        names = set(_wrapper_names(env))
    except (AttributeError, NotImplementedError, OSError, EOFError):  # an env that is closed
        return
    skip = (getattr(spec, "kwargs", None) or {}).get("frameskip", 1)
    if skip != 1 and names & {"AtariWrapper", "MaxAndSkipEnv"}:
        yield (
            f"{spec.id} repeats each action {skip} times by itself, and the wrapper repeats it again.",
            "Use the game's NoFrameskip-v4 id, or make it with frameskip=1.",
        )


def _wrapper_names(env: VecEnv) -> Iterator[str]:
    while env is not None:
        for inner in getattr(env, "envs", ())[:1]:
            while hasattr(inner, "env"):
                yield type(inner).__name__
                inner = inner.env
        env = getattr(env, "venv", None)  # type: ignore[assignment]


def _batch_norm_with_one_env(model: Any) -> Told:
    if model.n_envs == 1 and any(isinstance(module, BatchNorm) for module in model.policy.modules()):
        yield (
            "BatchNorm learns its statistics from one env, whose observations follow each other and look alike.",
            "Train with 8 envs or more, or use norm: layer, which has no statistics.",
        )


def _observations_normalised_twice(model: Any) -> Told:
    normalizer = model.get_vec_normalize_env()
    twice = any(isinstance(module, RunningInputNorm) for module in model.policy.modules())
    if twice and normalizer is not None and normalizer.norm_obs:
        yield (
            "Observations are normalised twice: by VecNormalize, and by the policy (norm_input: running).",
            "Leave one out: VecNormalize(norm_obs=False), or policy_kwargs without norm_input.",
        )


def _value_clipping_against_rewards(model: Any) -> Told:
    clip = getattr(model, "clip_range_vf", None)
    rewards = _episode_rewards(model)
    if clip is not None and rewards and not _is_normalised_or_clipped(model):
        bound, scale = float(clip(1.0) if callable(clip) else clip), float(np.abs(rewards).mean())
        if scale > 50 * bound:
            yield (
                f"clip_range_vf {bound:g}: by so much a value can move in an update; returns are about {scale:.3g}.",
                "Leave clip_range_vf unset, or normalise the rewards (VecNormalize).",
            )


def _large_rewards(model: Any) -> Told:
    info = list(getattr(model, "ep_info_buffer", None) or ())
    steps = sum(episode["l"] for episode in info)
    if (
        steps
        and isinstance(model, OnPolicyAlgorithm)  # in the others actor and critic share neither loss nor gradient
        and not _is_normalised_or_clipped(model)
        and not isinstance(getattr(model.policy, "value_net", None), NormalizedValue)
    ):
        scale = sum(abs(episode["r"]) for episode in info) / steps
        if scale > LARGE_REWARD:
            yield (
                f"Rewards are about {scale:.3g} per step: the value's loss and gradient drown the policy's.",
                "Scale, clip or normalise the rewards (VecNormalize), or the values: norm_value: running.",
            )


def _images_scaled_twice(model: Any, observations: Any) -> Told:
    space = model.observation_space
    if observations is None or isinstance(space, spaces.Dict) or not is_image_space(space):
        return
    if getattr(model.policy, "normalize_images", False) and 0 < float(np.max(observations)) <= 1:
        yield (
            "Images go up to 1 and are divided by 255 once more: the network sees next to nothing.",
            "Give images as uint8 from 0 to 255, or pass policy_kwargs=dict(normalize_images=False).",
        )


def _own_extractor(model: Any) -> BaseFeaturesExtractor | None:
    """An extractor with convolutions that is neither SB3's nor ours."""
    extractor = getattr(model.policy, "features_extractor", None)
    if not isinstance(extractor, BaseFeaturesExtractor):
        return None
    is_known = type(extractor).__module__.partition(".")[0] in ("stable_baselines3", "sb3_contrib", "sb3_stable_ppo")
    has_weights = any(True for _ in extractor.parameters())
    return None if is_known or not has_weights else extractor


def _episode_rewards(model: Any) -> list[float]:
    return [episode["r"] for episode in getattr(model, "ep_info_buffer", None) or ()]


def _is_normalised_or_clipped(model: BaseAlgorithm) -> bool:
    """Whether the agent learns from other rewards than Monitor reports, which is below what changes them."""
    env, normalizer = model.get_env(), model.get_vec_normalize_env()
    if env is None:
        return False
    clips = getattr(env.unwrapped, "clip_reward", False)  # AtariVecEnv
    normalises = normalizer is not None and normalizer.norm_reward
    return clips or normalises or any(env.env_is_wrapped(ClipRewardEnv, indices=[0]))


RULES: tuple[Callable[[Any], Told], ...] = (
    unusual_settings,
    _negative_learning_rate,
    _vanishing_learning_rate,
    _one_sample_minibatch,
    _hidden_layers_nobody_asked_for,
    _init_overwritten,
    _adam_eps_lost,
    _frames_skipped_twice,
    _batch_norm_with_one_env,
    _observations_normalised_twice,
    _value_clipping_against_rewards,
    _large_rewards,
)
