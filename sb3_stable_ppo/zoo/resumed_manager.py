"""
The manager of a run that goes on from its newest checkpoint: the same folder, the configuration that is saved there.
"""

from __future__ import annotations

import datetime
import socket
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from os import getpid
from pathlib import Path
from typing import Any

import rl_zoo3.exp_manager
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import HumanOutputFormat, make_output_format
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo.checkpoints.folder import warn_of_other_owner
from sb3_stable_ppo.checkpoints.resuming import Restored, restore
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.packages import PROGRAM
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.envs import batch_vec_env
from sb3_stable_ppo.runs.folder import RunWriter
from sb3_stable_ppo.zoo.learning import ModelInTraining
from sb3_stable_ppo.zoo.manager import StableExperimentManager
from sb3_stable_ppo.zoo.resuming import StartedRun
from sb3_stable_ppo.zoo.run_folder import LockedFolder


class ResumedManager(StableExperimentManager):
    """A run that goes on: envs and callbacks are built as at first, and a checkpoint gives them their state."""

    goes_on: StartedRun
    """The run."""
    ends_at: int | None = None
    """What ``-n`` says: environment steps of the whole run; None: as many as it was to have."""
    _restored: Restored

    @property
    def resumed_at(self) -> int:
        """Environment steps of the checkpoint that the run goes on from."""
        return int(self._restored.facts["step"])

    def _claim_folder(self) -> LockedFolder:
        """That of the run, which stays whatever happens."""
        self.continue_training = True  # rl_zoo3 then asks for a model that is there already
        return LockedFolder(self.goes_on.folder)

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        Those that the run has saved, whatever has become of the file that they came from.

        :raises UsageError: if they cannot be read
        """
        path = Path(self.params_path) / "config.yml"
        self._source = str(path)
        with printed_warnings():
            warn_of_other_owner(path.parent)
        try:
            found = dict(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.UnsafeLoader))  # rl_zoo3 dumps objects
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(
                f"{path} cannot be read ({described(error, 200)}), and without it the run cannot go on."
            ) from None
        return found, OrderedDict(sorted(found.items()))

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:  # rl_zoo3's signature
        """Nothing: it is saved already."""

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """As our own, with monitors that go on with their files."""
        with ExitStack() as patches:
            patches.enter_context(patched(rl_zoo3.exp_manager, "make_vec_env", _make_appending))
            appending = partial(ResultsWriter, override_existing=False)
            patches.enter_context(patched(batch_vec_env, "ResultsWriter", appending))
            return super().create_envs(n_envs, eval_env, no_log)

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """What the run has saved says whether to normalise, and the checkpoint has the statistics."""
        return self._normalized_anew(env, eval_env)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:  # noqa: ARG002
        """In place of rl_zoo3's: the model of the checkpoint, and for all else the state that is put back later."""
        device = None if self.device == "auto" else str(self.device)
        with printed_warnings():
            self._restored = restore(self.save_path, env, self.callbacks, device=device)
        self.callbacks = self._restored.callback
        return self._restored.model

    def _set_up_run(self, model: BaseAlgorithm) -> None:
        """The logs go on, but for tables on the terminal, which are as this call has them."""
        logger, facts = model.logger, self.goes_on.facts
        logger.output_formats = [each for each in logger.output_formats if not _is_table(each)]
        if self._has_tables:
            logger.output_formats.append(make_output_format("stdout", self.save_path))
        self.run = RunWriter(self.save_path)
        n_timesteps = self.n_timesteps
        if self.ends_at is None:
            n_timesteps = facts.get("n_timesteps") or n_timesteps  # not the first call's, if a later one gave another
            self.ends_at = int(facts.get("ends_at") or self._restored.total_timesteps)
        step = self.resumed_at
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        this = {"step": step, "time": now, "host": socket.gethostname(), "exact": self._restored.facts["exact"]}
        self.run.describe(
            status="running",
            pid=getpid(),
            host=socket.gethostname(),
            task=self.task or facts.get("task"),
            n_timesteps=n_timesteps,
            ends_at=self.ends_at,
            first_ends_at=facts.get("first_ends_at") or self._restored.total_timesteps,
            interrupted_by=None,
            error=None,
            resumed=[*facts.get("resumed", []), this],
        )
        if self.verbose > 0:
            print(f"{self.save_path}: the run goes on from step {step:,} to step {self.ends_at:,}.")

    def _in_training(self, model: BaseAlgorithm) -> ModelInTraining:
        return ModelInTraining(model, True, self.ends_at, self._restored.learn)


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Within, a warning is one line on stderr, without the place in our code that gave it."""
    with warnings.catch_warnings(), patched(warnings, "showwarning", _print_warning):
        warnings.simplefilter("always", UserWarning)
        yield


def _print_warning(message: Any, *_: Any) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def _make_appending(*args: Any, monitor_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> VecEnv:
    appending = {**(monitor_kwargs or {}), "override_existing": False}
    return make_vec_env(*args, **{**kwargs, "monitor_kwargs": appending})


def _is_table(writer: Any) -> bool:
    return isinstance(writer, HumanOutputFormat) and not writer.own_file


def resumed_manager(run: StartedRun, ends_at: int | None) -> type[ResumedManager]:
    """
    A manager that goes on with a run.

    :param run: which
    :param ends_at: environment steps of the whole run; None: as many as it was to have
    """
    return type("ResumedManager", (ResumedManager,), {"goes_on": run, "ends_at": ends_at})
