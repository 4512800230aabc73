"""
rl_zoo3 with our algorithms: its own code reads the YAML, builds the envs and trains; what is rough we mend from
outside.
"""

from __future__ import annotations

import datetime
import difflib
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, make_output_format
from stable_baselines3.common.utils import LinearSchedule, get_latest_run_id
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo.algorithms import StablePPO
from sb3_stable_ppo.callbacks import RunCallback
from sb3_stable_ppo.guards import CollapseError
from sb3_stable_ppo.hyperparams import UsageError, callback_entries, check_hyperparams, find_class, with_numbers
from sb3_stable_ppo.runs import RunWriter
from sb3_stable_ppo.schedules import counting_schedule, make_schedule

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"stable_ppo": StablePPO}
PACKAGES = ("sb3-stable-ppo", "stable-baselines3", "sb3-contrib", "rl_zoo3", "torch", "gymnasium", "ale-py", "numpy")


def config_file(algo: str) -> Path:
    """
    The YAML file that this package ships for an algorithm.

    :param algo: such as ``stable_ppo``
    """
    packaged = Path(__file__).parent / "zoo_configs"
    folder = packaged if packaged.is_dir() else Path(__file__).parent.parent / "zoo_configs"
    return folder / f"{algo}.yml"


def register() -> None:
    """Put our algorithms beside the stock ones, in the very dicts that all of rl_zoo3's modules share."""
    ALGOS.update(ALGORITHMS)
    for name in ALGORITHMS:
        HYPERPARAMS_SAMPLER[name] = _without_policy_kwargs(HYPERPARAMS_SAMPLER["ppo"])
        HYPERPARAMS_CONVERTER[name] = _without_policy_kwargs(HYPERPARAMS_CONVERTER["ppo"])


def _without_policy_kwargs(sample: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The zoo's search for PPO, but for policy_kwargs, with which it would replace those of the YAML file (zoo#431)."""

    def sample_without(*args: Any) -> dict[str, Any]:
        return {key: value for key, value in sample(*args).items() if key != "policy_kwargs"}

    return sample_without


class StableExperimentManager(ExperimentManager):
    """
    rl_zoo3's manager, which validates before it writes, counts updates in schedules, keeps a run folder that can be
    read back, saves whatever happens, and resumes where a model stopped.
    """

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        hyperparams, saved = super().read_hyperparameters()
        hyperparams = with_numbers(hyperparams)
        check_hyperparams(hyperparams, ALGOS[self.algo], f"{self.config}, {self.env_name.gym_id}")
        return hyperparams, saved

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Our schedules as ``learning_rate: {schedule: step, …}``; and ``lin_`` that ends at zero, not below it."""
        ready: dict[str, Any] = {}
        for key in ("learning_rate", "clip_range", "clip_range_vf"):
            value = hyperparams.get(key)
            if isinstance(value, dict):
                if key != "learning_rate" or "schedule" not in value:
                    raise UsageError(f"{key}: {value} is no schedule. learning_rate takes {{schedule: step, …}}.")
                ready[key] = make_schedule(**value)
            elif isinstance(value, str):
                prefix, _, initial = value.partition("_")
                try:
                    ready[key] = LinearSchedule(float(initial if prefix == "lin" else "?"), 0.0, 1.0)
                except ValueError:
                    raise UsageError(f"{key}: {value!r} is neither a number nor lin_ and a number.") from None
        others = {key: value for key, value in hyperparams.items() if key not in ready}
        return {**ExperimentManager._preprocess_schedules(others), **ready}

    def _preprocess_hyperparams(
        self, hyperparams: dict[str, Any]
    ) -> tuple[dict[str, Any], Callable[..., Any] | None, list[BaseCallback], Callable[..., Any] | None]:
        processed = super()._preprocess_hyperparams(hyperparams)
        if self.optimize_hyperparameters:  # a trial has no run folder to write to
            self.specified_callbacks = without_run_callbacks(self.specified_callbacks)
        return processed

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        """
        As rl_zoo3's, but a failure leaves nothing behind and becomes one sentence.

        :raises UsageError: for whatever keeps the experiment from being set up
        """
        folder = Path(self.save_path)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            results = super().setup_experiment()
            if results is not None:
                self._set_up_run(results[0])
        except Exception as error:
            _remove(missing)
            if isinstance(error, UsageError):
                raise
            kind = "" if isinstance(error, (ValueError, AssertionError)) else f"{type(error).__name__}: "
            raise UsageError(
                f"{self.algo} on {self.env_name.gym_id} cannot be set up: {kind}{' '.join(str(error).split())}"
            ) from error
        return results

    def _set_up_run(self, model: BaseAlgorithm) -> None:
        """Log to the run folder: SB3's progress.csv and TensorBoard; tables on the terminal if no bar is there."""
        tensorboard = str(Path(self.save_path) / "tensorboard")
        if self.tensorboard_log is not None:
            name = type(model).__name__
            tensorboard = str(
                Path(self.tensorboard_log) / f"{name}_{get_latest_run_id(self.tensorboard_log, name) + 1}"
            )
        tables = self.verbose > 1 or (self.verbose > 0 and not self.show_progress)
        formats = {"csv": self.save_path, "tensorboard": tensorboard, **({"stdout": self.save_path} if tables else {})}
        model.set_logger(Logger(self.save_path, [make_output_format(name, path) for name, path in formats.items()]))
        self.run = RunWriter(self.save_path)
        self.run.describe(
            status="running",
            algo=self.algo,
            env=self.env_name.gym_id,
            seed=self.seed,
            n_timesteps=self.n_timesteps,
            started=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            resumed_from=self.trained_agent or None,
            python=platform.python_version(),
            versions={package: _version(package) for package in PACKAGES},
        )

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        """A schedule that counts goes on with the count in the zip, unless the command line gives another."""
        overridden = "learning_rate" in (self.custom_hyperparams or {})
        if counting_schedule(hyperparams.get("learning_rate")) is not None and not overridden:
            del hyperparams["learning_rate"]
        return super()._load_pretrained_agent(hyperparams, env)

    def learn(self, model: BaseAlgorithm) -> None:
        """
        As rl_zoo3's, which saves after an interruption but not after a failure, and counts from zero when it resumes.

        :param model: the model to train
        :raises CollapseError: when training cannot go on; the model is saved before
        """
        status = "failed"
        try:
            super().learn(_Resuming(model) if self.continue_training else model)  # type: ignore[arg-type]
            status = "finished" if model.num_timesteps >= model._total_timesteps else "stopped"
        except CollapseError:
            status = "collapsed"
            raise
        finally:
            if status in ("failed", "collapsed"):
                self.save_trained_model(model)
            self.run.describe(status=status, num_timesteps=model.num_timesteps)
            model.logger.close()


def without_run_callbacks(specified: Any) -> list[Any]:
    """
    The callbacks of a YAML file but for those that write to a run folder.

    :param specified: in any of rl_zoo3's forms
    """
    return [
        {name: options}
        for name, options in callback_entries(specified)
        if not issubclass(find_class(name, "callback"), RunCallback)
    ]


class _Resuming:
    """Stands in for a model in ``ExperimentManager.learn``, which resets the count of timesteps."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model

    def learn(self, total_timesteps: int, **kwargs: Any) -> BaseAlgorithm:
        return self._model.learn(total_timesteps, reset_num_timesteps=False, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def check_env(env_id: str) -> None:
    """
    :param env_id: a Gymnasium id
    :raises UsageError: if it is not registered, with the extra that is missing or the nearest id
    """
    if env_id in gym.envs.registry:
        return
    if ("NoFrameskip" in env_id or env_id.startswith("ALE/")) and find_spec("ale_py") is None:
        raise UsageError(f"{env_id} needs the Atari emulator: pip install 'sb3-stable-ppo[atari]'.")
    nearest = difflib.get_close_matches(env_id, gym.envs.registry, n=1)
    raise UsageError(f"Unknown env {env_id!r}{f' (did you mean {nearest[0]}?)' if nearest else ''}.")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _remove(created: list[Path]) -> None:
    """Remove a run folder made in vain, and those of its parents that are empty (another run may have moved in)."""
    if not created:
        return
    shutil.rmtree(created[0], ignore_errors=True)
    for parent in created[1:]:
        try:
            parent.rmdir()
        except OSError:
            return
