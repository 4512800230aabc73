"""
A run of rl_zoo3 with our algorithms: its own code trains; what is rough we mend from outside.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from typing import Any

from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.errors import CollapseError, UsageError, described, one_line
from sb3_stable_ppo.determinism.fingerprint import fingerprint
from sb3_stable_ppo.envs.subprocesses import CONNECTION_ERRORS
from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.runs.folder import RunWriter
from sb3_stable_ppo.studies.storage import is_file, open_storage
from sb3_stable_ppo.zoo.callbacks import flag_callbacks, has_reached_return, with_health
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions, announce_resuming, checkpoint_of, with_checkpoint
from sb3_stable_ppo.zoo.configured_manager import ConfiguredManager
from sb3_stable_ppo.zoo.learning import ModelInTraining
from sb3_stable_ppo.zoo.masks import HOW_TO_MASK, masked_evaluation
from sb3_stable_ppo.zoo.redaction import redacted_command, unpickled_study
from sb3_stable_ppo.zoo.run_folder import ClaimedFolder, LockedFolder, facts_at_start, run_logger
from sb3_stable_ppo.zoo.trials import merged_sampling


class StableExperimentManager(ConfiguredManager):
    """
    rl_zoo3's manager, which keeps a run folder that can be read back, saves whatever happens, and resumes where a model
    stopped.
    """

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
    is_set_up = False
    """Whether training was about to begin: what goes wrong before is a mistake in the call."""
    has_trained = False
    """Whether training has begun, so that there are results."""

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

    def learn(self, model: BaseAlgorithm) -> None:
        """
        As rl_zoo3's, which does not save the model after a failure, and counts from zero when it resumes. The model is
        saved here, before the run counts as ended: who ends the process meanwhile can go on from a checkpoint.

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
            if status:
                self._end_run(model, status, problem)
            else:
                self._folder.give_up()

    def _end_run(self, model: BaseAlgorithm, status: str, problem: str | None) -> None:
        try:
            self._save_model(model)
        except BaseException as error:  # a full disk, or Ctrl-C
            status, problem = "failed", f"The model could not be saved: {described(error)}"
            raise
        finally:
            signal_name = None if self.interrupted_by is None else self.interrupted_by.name
            told = {"status": status, "error": problem, "interrupted_by": signal_name}
            self.run.describe(**told, num_timesteps=model.num_timesteps)
            self._folder.end(status)

    def _save_model(self, model: BaseAlgorithm) -> None:
        super().save_trained_model(model)

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        """Nothing: rl_zoo3 saves the model after :meth:`learn`, which has saved it."""

    def _in_training(self, model: BaseAlgorithm) -> ModelInTraining:
        return ModelInTraining(model, resumes=self.continue_training)
