"""
rl_zoo3 with our algorithms: its own code reads the YAML, builds the envs and trains; what is rough we mend from
outside.
"""

from __future__ import annotations

import copy
import shutil
import signal
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pprint import pprint
from types import MappingProxyType
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sb3_stable_ppo.common.errors import CollapseError, UsageError, described, one_line
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.determinism.fingerprint import fingerprint
from sb3_stable_ppo.envs.forkserver import preload_forkserver
from sb3_stable_ppo.envs.subprocesses import CONNECTION_ERRORS
from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.runs.folder import RunWriter
from sb3_stable_ppo.runs.statistics import statistics_of
from sb3_stable_ppo.studies.storage import is_file, open_storage
from sb3_stable_ppo.zoo.atari_options import REPLAY_KEYS
from sb3_stable_ppo.zoo.callbacks import flag_callbacks, has_reached_return, with_health, without_run_callbacks
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions, announce_resuming, checkpoint_of, with_checkpoint
from sb3_stable_ppo.zoo.configuration import entry_for, in_place_of_file
from sb3_stable_ppo.zoo.hyperparams import check_hyperparams, find_class, with_numbers
from sb3_stable_ppo.zoo.learning import ModelInTraining
from sb3_stable_ppo.zoo.masks import HOW_TO_MASK, masked_evaluation
from sb3_stable_ppo.zoo.overrides import with_overrides
from sb3_stable_ppo.zoo.quiet import without_hyperparameters
from sb3_stable_ppo.zoo.redaction import redacted_arguments, redacted_command, unpickled_study
from sb3_stable_ppo.zoo.run_folder import ClaimedFolder, LockedFolder, facts_at_start, run_logger
from sb3_stable_ppo.zoo.schedules import check_counted, read_schedules
from sb3_stable_ppo.zoo.time_limits import check_ends_are_seen
from sb3_stable_ppo.zoo.trained_agent import is_schedule_of, lines_of_this_run, with_statistics
from sb3_stable_ppo.zoo.trials import merged_sampling, saved_params, with_trial
from sb3_stable_ppo.zoo.vec_env_options import STOCK_VEC_ENVS, vec_env_options
from sb3_stable_ppo.zoo.vec_envs import batch_vec_env


class StableExperimentManager(ExperimentManager):
    """
    rl_zoo3's manager, which validates before it writes, counts updates in schedules, keeps a run folder that can be
    read back, saves whatever happens, and resumes where a model stopped.
    """

    vec_env_flag: str | None = None
    """What ``--vec-env`` says, which goes before the file's ``vec_env``."""
    stop_at_return: float | None = None
    """What ``--stop-at-return`` says: training ends once the last episodes have this mean return."""
    has_health = True
    """Whether a run has a HealthCallback, whatever its configuration says; ``--no-health``: not."""
    task: str | None = None
    """Which run of ``train --seeds`` this is; its folder tells, should it have to be done again."""
    arguments: Sequence[str] | None = None
    """Those of ``train`` by which the run goes on after a kill; None: it does not."""
    checkpoints = CheckpointOptions()
    """What the flags for checkpoints say."""
    interrupted_by: signal.Signals | None = None
    """The signal that has ended training."""
    _overrides: Mapping[str, Any] = MappingProxyType({})
    """What ``--hyperparams`` says."""
    is_set_up = False
    """Whether training was about to begin: what goes wrong before is a mistake in the call."""
    has_trained = False
    """Whether training has begun, so that there are results."""

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
            return super()._maybe_normalize(env, eval_env)
        if not eval_env:
            print(f"Statistics of VecNormalize: {statistics}")
        self.normalize = True
        return with_statistics(env, statistics, eval_env)

    def create_callbacks(self) -> None:
        """As rl_zoo3's, which drops the masks of masked envs when it evaluates."""
        with masked_evaluation(self.algo):
            super().create_callbacks()  # type: ignore[no-untyped-call]
        if not self.optimize_hyperparameters:
            if self.has_health:
                self.callbacks = with_health(self.callbacks, ALGOS[self.algo])
            self.callbacks += flag_callbacks(self.save_path, self.show_progress, self.stop_at_return, self.verbose)
            self.callbacks = with_checkpoint(self.callbacks, ALGOS[self.algo], self.checkpoints, self.save_path)

    def hyperparameters_optimization(self) -> None:
        """As rl_zoo3's, which keeps a database's password in the study's attributes and in a pickle of the study."""
        with redacted_command(self.storage), unpickled_study(self.storage):
            super().hyperparameters_optimization()

    def objective(self, trial: Any) -> float:
        """As rl_zoo3's, with masks, and what the YAML file says of the network and the guards."""
        with (
            masked_evaluation(self.algo),
            merged_sampling(self.algo, self._hyperparams, self.n_envs, self.n_timesteps),
        ):
            return float(super().objective(trial))

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        """
        As rl_zoo3's, but a failure leaves nothing behind and becomes one sentence.

        :raises UsageError: for whatever keeps the experiment from being set up
        """
        if self.optimize_hyperparameters and self.storage:
            if not self.study_name:
                raise UsageError("--storage needs --study-name.")
            if not is_file(self.storage):
                open_storage(self.storage)  # which tells in one sentence where it cannot be reached
        try:
            self._folder = self._claim_folder()
        except OSError as error:
            raise UsageError(f"--log-folder {self.log_folder}: {error}") from error
        self.save_path = str(self._folder.path)
        self.params_path = f"{self.save_path}/{self.env_name}"
        try:
            results = super().setup_experiment()
            if results is not None:
                self._set_up_run(results[0])
        except BaseException as error:
            self._folder.give_up()
            if isinstance(error, UsageError) or not isinstance(error, Exception):
                raise
            is_told = isinstance(error, (ValueError, AssertionError)) and str(error)
            told = one_line(error) if is_told else described(error)
            what = f"{self.algo} on {self.env_name.gym_id} cannot be set up"
            raise UsageError(f"{what}: {told}") from error
        if results is None:  # hyperparameters are optimised: rl_zoo3 keeps its report elsewhere
            shutil.rmtree(self.save_path)
        self.is_set_up = True
        return results

    def _claim_folder(self) -> LockedFolder:
        """:raises OSError: if there can be no run folder"""
        return ClaimedFolder(self.save_path)

    @property
    def _has_tables(self) -> bool:
        """Whether there are tables on the terminal: where no bar is."""
        return self.verbose > 1 or (self.verbose > 0 and not self.show_progress)

    def _set_up_run(self, model: BaseAlgorithm) -> None:
        """Log to the run folder: SB3's progress.csv and TensorBoard; tables on the terminal if no bar is there."""
        model.set_logger(run_logger(self.save_path, model, self.tensorboard_log, self._has_tables))
        config = getattr(model.policy, "fast_path_config", FastPathConfig())  # stock policies have none
        fast_path = None if config.is_plain else config.describe(model.device)
        if fast_path and self.verbose > 0:
            print(f"Fast path: {fast_path}")
        self.run = RunWriter(self.save_path)
        announce_resuming(checkpoint_of(self.callbacks), self.run, self.verbose)
        self.run.describe(
            **facts_at_start(),
            fingerprint=fingerprint(model.device),
            algo=self.algo,
            env=self.env_name.gym_id,
            seed=self.seed,
            task=self.task,
            n_timesteps=self.n_timesteps,
            resumed_from=self.trained_agent or None,
            fast_path=fast_path,
            stop_at_return=self.stop_at_return,
            arguments=self.arguments,
        )

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        """A schedule equal to that in the zip goes on with the zip's count; any other one begins."""
        if is_schedule_of(self.trained_agent, hyperparams.get("learning_rate")):
            del hyperparams["learning_rate"]
        hyperparams |= lines_of_this_run(self.trained_agent, hyperparams, self.n_timesteps)
        return super()._load_pretrained_agent(hyperparams, env)

    def learn(self, model: BaseAlgorithm) -> None:
        """
        As rl_zoo3's, which saves after an interruption but not after a failure, and counts from zero when it resumes.

        :param model: the model to train
        :raises CollapseError: when training cannot go on; the model is saved before
        :raises RuntimeError: if an env's process was lost; the model is saved before
        :raises UsageError: if it cannot even begin
        """
        status, steps_before, problem = "failed", model.num_timesteps, None
        training = self._in_training(model)
        try:
            try:
                super().learn(training)  # type: ignore[arg-type]  # which has what is used of a model
            except CONNECTION_ERRORS:  # Ctrl-C reaches the envs' processes too, and they are gone when they are closed
                if training.interrupted_by is None:
                    raise
            is_done = has_reached_return(self.callbacks) or model.num_timesteps >= model._total_timesteps
            status = "finished" if is_done else "stopped"
            self.interrupted_by = training.interrupted_by if status == "stopped" else None
        except CollapseError as error:
            status, problem = "collapsed", str(error)
            raise
        except (ValueError, AssertionError) as error:
            if model.num_timesteps > steps_before:
                problem = f"{type(error).__name__}: {error}"
                raise
            status = ""
            cure = HOW_TO_MASK if "action masking" in str(error) else ""
            raise UsageError(f"{self.algo} on {self.env_name.gym_id} cannot begin: {error}{cure}") from error
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise
        finally:
            model.logger.close()
            self.has_trained = bool(status)
            if status in ("failed", "collapsed"):
                self.save_trained_model(model)
            if status:
                signal_name = None if self.interrupted_by is None else self.interrupted_by.name
                told = {"status": status, "error": problem, "interrupted_by": signal_name}
                self.run.describe(**told, num_timesteps=model.num_timesteps)
                self._folder.end(status)
            else:
                self._folder.give_up()

    def _in_training(self, model: BaseAlgorithm) -> ModelInTraining:
        return ModelInTraining(model, resumes=self.continue_training)
