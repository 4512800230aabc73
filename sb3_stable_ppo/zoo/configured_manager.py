"""
From a configuration to hyperparameters and envs: rl_zoo3's own code reads and builds them; what is rough we mend from
outside.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from pprint import pprint
from types import MappingProxyType
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize

from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.envs.forkserver import preload_forkserver
from sb3_stable_ppo.runs.statistics import statistics_of
from sb3_stable_ppo.zoo.atari_options import REPLAY_KEYS
from sb3_stable_ppo.zoo.callbacks import without_run_callbacks
from sb3_stable_ppo.zoo.configuration import entry_for, in_place_of_file
from sb3_stable_ppo.zoo.hyperparams import check_hyperparams, find_class, with_numbers
from sb3_stable_ppo.zoo.overrides import with_overrides
from sb3_stable_ppo.zoo.quiet import without_hyperparameters
from sb3_stable_ppo.zoo.redaction import redacted_arguments, redacted_command
from sb3_stable_ppo.zoo.schedules import check_counted, read_schedules
from sb3_stable_ppo.zoo.time_limits import check_ends_are_seen
from sb3_stable_ppo.zoo.trained_agent import is_schedule_of, lines_of_this_run, with_statistics
from sb3_stable_ppo.zoo.trials import saved_params, with_trial
from sb3_stable_ppo.zoo.vec_env_options import STOCK_VEC_ENVS, vec_env_options
from sb3_stable_ppo.zoo.vec_envs import batch_vec_env


class ConfiguredManager(ExperimentManager):
    """rl_zoo3's manager, which validates a configuration before it writes, and takes our words in it."""

    vec_env_flag: str | None = None
    """What ``--vec-env`` says, which goes before the file's ``vec_env``."""
    _overrides: Mapping[str, Any] = MappingProxyType({})
    """What ``--hyperparams`` says."""

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        As rl_zoo3's, from the entry that :func:`entry_for` finds, with what ``--hyperparams`` gives merged into it.

        :raises UsageError: if there is no entry, or something in it is wrong
        """
        overrides = self._overrides = self.custom_hyperparams or {}
        trial_id, self.trial_id = self.trial_id, None  # rl_zoo3 takes trial 0 for none, and merges no policy_kwargs
        found = entry_for(self.config, self.env_name.gym_id, ALGOS[self.algo])
        self._source = found.source
        if found.note:
            print(found.note)
        content = {self.env_name.gym_id: with_overrides(found.hyperparams, overrides, found.source)}
        with (
            in_place_of_file(self, found.path, content),
            patched(self, "custom_hyperparams", None),
            without_hyperparameters(self.verbose),
        ):
            hyperparams, _ = super().read_hyperparameters()
        if trial_id is not None and not self.optimize_hyperparameters:
            params = saved_params(self.load_trial, self.storage, self.study_name, trial_id)
            steps = self.n_timesteps if self.n_timesteps > 0 else int(float(hyperparams["n_timesteps"]))
            hyperparams = with_overrides(with_trial(self.algo, hyperparams, params, steps), overrides, self._source)
            pprint({f"with trial {trial_id}": hyperparams})
        hyperparams = with_numbers(hyperparams)
        check_hyperparams(hyperparams, ALGOS[self.algo], self._source, overrides)
        if not self.optimize_hyperparameters:
            check_counted(hyperparams, self.algo, self._source)
        # a copy to save: A2C writes into the policy_kwargs that it is given
        return hyperparams, OrderedDict(sorted(copy.deepcopy(hyperparams).items()))

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        """As rl_zoo3's, which keeps the command line with the model, and the database's password in it."""
        shown = redacted_arguments(self.args, self.storage)
        if self.normalize and not saved_hyperparams.get("normalize"):  # as the agent that it begins with was
            saved_hyperparams["normalize"] = True
        with redacted_command(self.storage), patched(self, "args", shown):
            super()._save_config(saved_hyperparams)

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Our schedules as ``learning_rate: {schedule: step, …}``; and ``lin_`` that ends at zero, not below it."""
        ready = read_schedules(hyperparams)
        others = {key: value for key, value in hyperparams.items() if key not in ready}
        return {**ExperimentManager._preprocess_schedules(others), **ready}

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable[..., Any] | None, list[BaseCallback], Callable[..., Any] | None]:
        source = self._source
        vec_env_source = "--hyperparams" if "vec_env" in self._overrides else source
        if self.vec_env_flag is not None:
            hyperparams["vec_env"], vec_env_source = self.vec_env_flag, "--vec-env"
        given = {"env_kwargs": self.env_kwargs, **hyperparams}  # rl_zoo3 keeps what --env-kwargs says to itself
        self._make_batch_vec_env = batch_vec_env(given, self.env_name.gym_id, vec_env_source)
        vec_env = hyperparams.pop("vec_env", None)
        for key in REPLAY_KEYS:
            hyperparams.pop(key, None)
        if vec_env in STOCK_VEC_ENVS:
            self.vec_env_class = STOCK_VEC_ENVS[vec_env]
        options_source = "--hyperparams" if "vec_env_kwargs" in self._overrides else source
        options = hyperparams.pop("vec_env_kwargs", None)
        self.vec_env_kwargs = vec_env_options(options, vec_env, options_source)
        if isinstance(hyperparams.get("rollout_buffer_class"), str):  # which rl_zoo3 leaves as the word it is
            name = hyperparams["rollout_buffer_class"]
            hyperparams["rollout_buffer_class"] = find_class(name, f"{source}: rollout_buffer_class")
        processed = super()._preprocess_hyperparams(hyperparams)
        if self._eval_env_kwargs_args is None:  # rl_zoo3 evaluates without the env_kwargs of a configuration
            self.eval_env_kwargs = self.env_kwargs
        if self.optimize_hyperparameters:  # a trial has no run folder to write to
            self.specified_callbacks = without_run_callbacks(self.specified_callbacks)
        return processed

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """As rl_zoo3's, or what ``vec_env`` names. Scores are always those of the stock env, which ``eval_env`` is."""
        if self.vec_env_class is SubprocVecEnv:
            preload_forkserver()
        if self._make_batch_vec_env is None or eval_env:
            made = super().create_envs(n_envs, eval_env, no_log)
            if eval_env:
                check_ends_are_seen(made, self._source)
            return made
        env = self._make_batch_vec_env(n_envs, self.seed, monitor_dir=None if no_log else self.save_path)
        wrapped = env if self.vec_env_wrapper is None else self.vec_env_wrapper(env)
        return self._maybe_normalize(wrapped, eval_env)

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """As rl_zoo3's, which finds the statistics of a trained agent in one place alone, and does not save them."""
        agent, env_id = self.trained_agent, self.env_name.gym_id
        statistics = statistics_of(Path(agent), env_id) if agent and self.continue_training else None
        if statistics is None:
            if agent and self.normalize and not eval_env:
                print(f"{agent} has no statistics of VecNormalize (vecnormalize.pkl): the run begins with new ones.")
            return self._normalized_anew(env, eval_env)
        if not eval_env:
            print(f"Statistics of VecNormalize: {statistics}")
        self.normalize = True
        return with_statistics(env, statistics, eval_env)

    def _normalized_anew(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """
        As rl_zoo3's ``_maybe_normalize``, which takes statistics from the current folder where no agent is given: a run
        folder, and also others, have some of the same name.
        """
        if not self.normalize:
            return env
        arguments = {**self.normalize_kwargs, **({"training": False, "norm_reward": False} if eval_env else {})}
        if self.verbose > 0:
            print(f"VecNormalize: {arguments}" if arguments else "VecNormalize: observations and rewards")
        return VecNormalize(env, **arguments)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        """A schedule equal to that in the zip goes on with the zip's count; any other one begins."""
        if is_schedule_of(self.trained_agent, hyperparams.get("learning_rate")):
            del hyperparams["learning_rate"]
        hyperparams |= lines_of_this_run(self.trained_agent, hyperparams, self.n_timesteps)
        print(f"The network is that of {self.trained_agent}: policy and policy_kwargs of the entry do not count.")
        return super()._load_pretrained_agent(hyperparams, env)
