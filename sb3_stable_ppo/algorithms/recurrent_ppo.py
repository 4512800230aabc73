"""sb3-contrib's RecurrentPPO, guarded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.guards.config import DEFAULT_GUARDS, GuardConfig
from sb3_stable_ppo.guards.mixin import GuardMixin
from sb3_stable_ppo.policies import classes as policies
from sb3_stable_ppo.policies.classes import own_form
from sb3_stable_ppo.policies.value_norm_learning import NormalizesValues
from sb3_stable_ppo.schedules.update_counter import CountsUpdates


@public
class StableRecurrentPPO(CountsUpdates, NormalizesValues, GuardMixin, RecurrentPPO):
    """
    sb3-contrib's RecurrentPPO, guarded as :class:`~sb3_stable_ppo.StablePPO`. All arguments but ``guards`` are
    sb3-contrib's, with its defaults.

    :param policy: ``StablePongPolicy``, ``StableCnnPolicy``, ``StableMlpPolicy``, ``StableMultiInputPolicy``, one of
        sb3-contrib's names, or a policy class; our names mean its recurrent form
    :param env: the environment, or its Gymnasium id
    :param learning_rate: a number, a function of the remaining progress (1 to 0), or a schedule that counts updates,
        such as :class:`~sb3_stable_ppo.StepLR`
    :param n_steps: steps of each env in a rollout; an update has ``n_steps * n_envs`` samples
    :param batch_size: samples of a minibatch
    :param n_epochs: passes over the rollout in an update
    :param gamma: discount factor
    :param gae_lambda: trade-off of bias and variance in Generalized Advantage Estimation
    :param clip_range: bound of ``|ratio - 1|``: a number or a function of the remaining progress
    :param clip_range_vf: bound of a value's change in an update, in units of the return; None: no bound
    :param normalize_advantage: whether each minibatch's advantages get mean 0 and standard deviation 1
    :param ent_coef: weight of the entropy in the loss
    :param vf_coef: weight of the value loss
    :param max_grad_norm: gradients are scaled down to this norm
    :param use_sde: whether to explore with gSDE (continuous actions) rather than with independent noise
    :param sde_sample_freq: steps between two draws of gSDE's noise; -1: one draw a rollout
    :param target_kl: an update ends early once its ``approx_kl`` exceeds 1.5 times this; None: never
    :param stats_window_size: episodes over which the logged return, length and success rate are averaged
    :param tensorboard_log: folder for TensorBoard; None: no log
    :param policy_kwargs: arguments of the policy (:class:`~sb3_stable_ppo.policies.mixin.StablePolicyMixin`)
    :param verbose: 0: nothing; 1: information; 2: debugging
    :param seed: of the random generators and the env
    :param device: ``cpu``, ``cuda``, …, or ``auto``
    :param _init_setup_model: whether to build the networks at once; False is for ``load``
    :param guards: a :class:`~sb3_stable_ppo.GuardConfig`, a dict with its fields, or None for stock training
    :raises ValueError: for an unknown guard or a number outside its range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        **RecurrentPPO.policy_aliases,
        "StablePongPolicy": policies.StableRecurrentPongPolicy,
        "StableCnnPolicy": policies.StableRecurrentCnnPolicy,
        "StableMlpPolicy": policies.StableRecurrentMlpPolicy,
        "StableMultiInputPolicy": policies.StableRecurrentMultiInputPolicy,
    }

    def __init__(
        self,
        policy: str | type[RecurrentActorCriticPolicy] | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 128,
        batch_size: int | None = 128,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        guards: GuardConfig | Mapping[str, Any] | None = DEFAULT_GUARDS,
    ) -> None:
        super().__init__(
            own_form(policy, self.policy_aliases, policy_kwargs),
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
            guards=guards,
        )
