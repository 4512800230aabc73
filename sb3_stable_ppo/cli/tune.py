"""
``sb3-stable-ppo tune``: search for hyperparameters with Optuna, in one process or many.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from sb3_stable_ppo.cli.arguments import (
    add_gym_packages,
    add_worker_arguments,
    count_or_seeds,
    non_negative_int,
    parser_of,
    positive_int,
)
from sb3_stable_ppo.cli.resuming import add_interval_arguments
from sb3_stable_ppo.cli.zoo_flags import add_zoo_flags, stored
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.signals import CHECKPOINT_SIGNAL, exit_status, ignored

DESCRIPTION = """\
Search for good hyperparameters with Optuna, with several workers or on several machines. The same
command goes on where it stopped. At the end the best trial is a file for train --conf-file.
Flags go by the names of rl_zoo3's train too."""


def parser() -> argparse.ArgumentParser:
    """The flags of ``tune``."""
    found = parser_of("tune", DESCRIPTION, "--env CartPole-v1 -n 20000 --trials 50 --workers 4")
    what = found.add_argument_group("what is trained")
    what.add_argument(
        "--algo", default="stable_ppo", help="stable_ppo, stable_ppo_mask or stable_ppo_lstm (default: %(default)s)"
    )
    what.add_argument("--env", required=True, help="id of the environment")
    add_gym_packages(what)
    what.add_argument(
        "-n", "--n-timesteps", type=positive_int, required=True, metavar="STEPS", help="environment steps of each run"
    )
    what.add_argument(
        "-conf",
        "--conf-file",
        type=Path,
        metavar="FILE",
        help="YAML file with the entry that trials change (default: this package's)",
    )
    pairs: dict[str, Any] = {"nargs": "+", "metavar": "NAME:VALUE"}
    what.add_argument(
        "-params",
        "--hyperparams",
        **pairs,
        help="hyperparameters of all trials, such as n_steps:256; a value is Python (default: the file's)",
    )
    what.add_argument("--env-kwargs", **pairs, help="arguments of the env in all trials (default: the file's)")
    trials = found.add_argument_group("trials")
    trials.add_argument(
        "--trials",
        "--n-trials",
        "--max-total-trials",
        type=positive_int,
        default=50,
        metavar="N",
        help="trials in all, over all calls and workers (default: %(default)s)",
    )
    trials.add_argument(
        "--seeds",
        type=count_or_seeds,
        default=1,
        help="runs of each trial, whose mean counts: how many (5: from --seed on), or which (0-9, or 1,3,5) "
        "(default: %(default)s)",
    )
    trials.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="SEED",
        help="first seed of each trial, where --seeds says how many (default: %(default)s)",
    )
    trials.add_argument(
        "--n-evaluations",
        type=positive_int,
        default=5,
        metavar="N",
        help="evaluations of each run (default: %(default)s)",
    )
    trials.add_argument(
        "--eval-episodes",
        type=positive_int,
        default=5,
        metavar="N",
        help="episodes of each evaluation (default: %(default)s)",
    )
    trials.add_argument(
        "--sampler",
        choices=["tpe", "random"],
        default="tpe",
        help="how Optuna draws parameters (default: %(default)s)",
    )
    trials.add_argument(
        "--n-startup-trials",
        type=non_negative_int,
        default=10,
        metavar="N",
        help="trials that are drawn at random before TPE begins (default: %(default)s)",
    )
    trials.add_argument(
        "--pruner",
        choices=["median", "halving", "none"],
        default="median",
        help="what ends a bad trial after an evaluation (default: %(default)s)",
    )
    trials.add_argument("--health", action="store_true", help="a second objective: the least share of live units")
    study = found.add_argument_group("the study")
    study.add_argument(
        "-f",
        "--log-folder",
        type=Path,
        default=Path("logs"),
        metavar="FOLDER",
        help="the study's files are in FOLDER/STUDY (default: %(default)s)",
    )
    study.add_argument("--study", "--study-name", metavar="NAME", help="the study's name (default: tune_ENV)")
    study.add_argument(
        "--storage",
        metavar="URL_OR_FILE",
        help="where Optuna keeps the study: URL of a database, or a file (default: FOLDER/STUDY/journal.log)",
    )
    study.add_argument(
        "--heartbeat",
        type=positive_int,
        default=60,
        metavar="SECONDS",
        help="seconds between two signs of life of a trial in a database; one that misses three is dead "
        "(default: %(default)s)",
    )
    study.add_argument(
        "--no-optim-plots", dest="plots", action="store_false", help="write no study.html with Optuna's plots"
    )
    add_interval_arguments(found.add_argument_group("checkpoints, from which a trial whose worker died goes on"))
    add_worker_arguments(found.add_argument_group("workers"), "only show the study", "--n-jobs")
    add_zoo_flags(found)
    return found


def run(argv: list[str]) -> int:
    """search for good hyperparameters with Optuna; several workers, several machines"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("tune needs rl_zoo3 and optuna: pip install 'sb3-stable-ppo[zoo]'.")
    args = vars(parser().parse_args(argv))
    import optuna

    from sb3_stable_ppo.tuning.coordinator import tune

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    hyperparams, env_kwargs = args.pop("hyperparams"), args.pop("env_kwargs")
    fixed = stored("--hyperparams", hyperparams or ())
    if env_kwargs is not None:
        fixed["env_kwargs"] = stored("--env-kwargs", env_kwargs)
    try:
        with ignored(CHECKPOINT_SIGNAL):  # which a scheduler sends to all processes of a job
            tune(**args, hyperparams=fixed or None)
    except KeyboardInterrupt:  # tune has told
        return exit_status()
    return 0
