"""
``sb3-stable-ppo tune``: search for hyperparameters with Optuna, in one process or many.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sb3_stable_ppo.cli.arguments import add_worker_arguments, non_negative_int, parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError


def run(argv: list[str]) -> int:
    """search for good hyperparameters with Optuna; several workers, several machines"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("tune needs rl_zoo3 and optuna: pip install 'sb3-stable-ppo[zoo]'.")
    parser = parser_of("tune", run.__doc__)
    parser.add_argument("--algo", default="stable_ppo", help="stable_ppo, stable_ppo_mask or stable_ppo_lstm")
    parser.add_argument("--env", required=True)
    parser.add_argument("-n", "--n-timesteps", type=positive_int, required=True, help="environment steps of each run")
    parser.add_argument("--trials", type=positive_int, default=50, help="in all, over all workers (%(default)s)")
    parser.add_argument(
        "--seeds", type=positive_int, default=1, help="runs of each trial, whose mean counts (%(default)s)"
    )
    parser.add_argument("--seed", type=non_negative_int, default=0, help="the first of them (%(default)s)")
    parser.add_argument("--n-evaluations", type=positive_int, default=5, help="of each run (%(default)s)")
    parser.add_argument("--eval-episodes", type=positive_int, default=5, help="of each evaluation (%(default)s)")
    parser.add_argument("--pruner", choices=["median", "halving", "none"], default="median")
    parser.add_argument("--health", action="store_true", help="a second objective: the least share of live units")
    parser.add_argument("--conf-file", type=Path, help="the configuration that trials change (this package's)")
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"), help="(%(default)s)")
    parser.add_argument("--study", help="name (tune_ENV)")
    parser.add_argument("--storage", help="URL of a database, or a file (LOG_FOLDER/STUDY/journal.log)")
    parser.add_argument(
        "--heartbeat", type=positive_int, default=60, help="seconds; a trial that misses three is dead (%(default)s)"
    )
    parser.add_argument("--gym-packages", nargs="+", default=[], help="modules that register the env")
    add_worker_arguments(parser, none="only show the study")
    args = parser.parse_args(argv)
    import optuna

    from sb3_stable_ppo.tuning.coordinator import tune

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        tune(**vars(args))
    except KeyboardInterrupt:  # tune has told
        return 130
    return 0
