"""A small study: its plan, its parameters, its command line."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import TrialState

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.studies.storage import FIRST, open_storage
from sb3_stable_ppo.studies.study import WORKER, effective_trials, open_study, running
from sb3_stable_ppo.studies.worker_names import own_name

optuna.logging.set_verbosity(optuna.logging.ERROR)

PACKAGES = ("--gym-packages", "helpers.callbacks")
"""Flags by which a study finds the callbacks that its trials name."""
PARAMS: dict[str, Any] = {
    "learning_rate": 2e-3,
    "schedule": "step",
    "n_epochs": 3,
    "clip_range": 0.2,
    "ent_coef": 0.01,
    "one_minus_gamma": 0.02,
    "one_minus_gae_lambda": 0.1,
    "norm": "layer",
    "norm_position": "before",
    "activation": "leaky_relu",
    "negative_slope": 0.05,
    "init_gain": 0.9,
    "max_kl": 0.5,
    "n_steps_pow": 6,
    "batch_size_pow": 5,
    "intervention": "none",
}

PLAN = {"algo": "stable_ppo", "env": "CartPole-v1", "seeds": (0, 1)}


def config_with(folder: Path, *callbacks: str) -> list[str]:
    entry: dict[str, Any] = {
        "policy": "StableMlpPolicy",
        "policy_kwargs": {"net_arch": [16]},
        "n_envs": 2,
        "n_steps": 32,
        "batch_size": 64,
        "n_timesteps": "1e5",
        "callback": ["sb3_stable_ppo.HealthCallback", *callbacks],
    }
    (folder / "config.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    return ["--conf-file", str(folder / "config.yml")]


def flags(folder: Path, *callbacks: str, steps: int = 512) -> list[str]:
    quick = ["--n-evaluations", "2", "--eval-episodes", "1", "-n", str(steps), "-f", str(folder)]
    return ["tune", "--env", "CartPole-v1", *quick, *config_with(folder, *callbacks)]


def with_ctrl_c() -> None:
    """A shell's background jobs, which the tests may be among, ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def study_of(tmp_path: Path, **plan: Any) -> optuna.Study:
    """A study on a journal."""
    return open_study(open_storage(str(tmp_path / "journal.log")), "s", {**PLAN, **plan}, "median", 0, 1)


def study_in(where: str, name: str = "tune_CartPole-v1") -> optuna.Study | None:
    """A study of a storage, once it is there."""
    try:
        return optuna.load_study(study_name=name, storage=open_storage(where))
    except (KeyError, UsageError):
        return None


def states_of(folder: Path) -> list[str]:
    """Of each planned trial the state it came to."""
    study = optuna.load_study(
        study_name="tune_CartPole-v1", storage=open_storage(str(folder / "tune_CartPole-v1" / "journal.log"))
    )
    return [effective_trials(study)[number].state.name for number in sorted(effective_trials(study))]


def totals(study: optuna.Study) -> list[int]:
    """Of each trial, however often it was tried, how often it was completed."""
    counted = dict.fromkeys(effective_trials(study), 0)
    for trial in study.trials:
        if trial.state is TrialState.COMPLETE:
            counted[trial.user_attrs.get(FIRST, trial.number)] += 1
    return list(counted.values())


def worker_of_a_trial(study: optuna.Study) -> int | None:
    """The process of one that runs and has trained for a while."""
    for trial in running(study):
        if WORKER in trial.user_attrs and trial.params:
            return int(trial.user_attrs[WORKER].split(":")[1])
    return None


def name_of_a_dead_process() -> str:
    """As a worker of this machine had it that is no more."""
    host, _, _ = own_name().rsplit(":", 2)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{host}:{process.pid}:{time.time():.0f}"
