"""
``sb3-stable-ppo train``: an agent trained through rl_zoo3.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from sb3_stable_ppo.cli.arguments import (
    BriefParser,
    add_help_argument,
    add_worker_arguments,
    brief_error,
    count_or_seeds,
    finite_number,
    non_negative_int,
    parser_of,
    show_help,
    worker_options,
)
from sb3_stable_ppo.cli.determinism import add_determinism_arguments, check_determinism_of
from sb3_stable_ppo.cli.results import leave_report, print_next, print_results
from sb3_stable_ppo.cli.resuming import GoesOn, add_checkpoint_arguments, has_ended, how_it_goes_on
from sb3_stable_ppo.cli.zoo_flags import stored
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.packages import PROGRAM, import_packages
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.common.seeds import is_count, parse_seeds
from sb3_stable_ppo.common.signals import CHECKPOINT_SIGNAL, handled, ignored
from sb3_stable_ppo.envs.registry import check_env
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.zoo.resuming import AUTO
from sb3_stable_ppo.zoo.run_arguments import kept
from sb3_stable_ppo.zoo.seeds import FINISHED, meaning_now, move_dead_attempt, train_seeds

DESCRIPTION = """\
Train an agent through rl_zoo3. All flags of rl_zoo3's train work; they follow below.
--vec-env takes restarting, ale and envpool too; values of -params are written as in Python (guards:None).
Defaults that differ from rl_zoo3's: --algo stable_ppo, --conf-file of this package for its algorithms,
and a progress bar (--progress)."""
OF_THE_ENTRY = "-1"
"""rl_zoo3's ``-n`` for the steps that the entry says."""
PASSED_ON = ("--stop-at-return", "--resume", "--checkpoint-minutes", "--checkpoint-steps")
SWITCHES = ("--no-health", "--no-report", "--no-checkpoint-replay-buffer")
"""Flags of ours that each run of ``--seeds`` and ``--check-determinism`` gets, with a value and without."""
PAIRS = (("-params", "--hyperparams"), ("--env-kwargs",), ("--eval-env-kwargs",))
"""Flags of rl_zoo3 whose values it evaluates."""


def parser() -> argparse.ArgumentParser:
    """Our own flags of ``train``; rl_zoo3 parses the others."""
    found = parser_of("train", DESCRIPTION, "--env CartPole-v1 -n 20000 --seeds 5 --workers 2", add_help=False)
    add_help_argument(found)
    found.add_argument("--no-progress", action="store_true", help="print SB3's tables instead of a progress bar")
    found.add_argument(
        "--stop-at-return",
        type=finite_number,
        metavar="R",
        help="end once the last 30 episodes have a mean return of R; 18 in Pong (default: train all steps)",
    )
    found.add_argument(
        "--no-health",
        action="store_true",
        help="add no HealthCallback where the configuration has none (default: every run has one)",
    )
    found.add_argument("--no-report", action="store_true", help="write no report.html at the end")
    add_checkpoint_arguments(found)
    add_determinism_arguments(found)
    seeds = found.add_argument_group("several seeds, a run for each")
    seeds.add_argument(
        "--seeds",
        type=count_or_seeds,
        help="how many (5: from --seed on, or else from 0 on), or which (0-9, or 1,3,5) (default: one run)",
    )
    add_worker_arguments(seeds)
    found.add_argument("--task", help=argparse.SUPPRESS)
    return found


def _of_rl_zoo3() -> argparse.ArgumentParser:
    """The flags of rl_zoo3's train that are read here before it reads them."""
    found = BriefParser(prog=f"{PROGRAM} train", add_help=False, allow_abbrev=False)
    found.add_argument("--algo", default="stable_ppo")
    found.add_argument("--env", default="CartPole-v1")
    found.add_argument("--gym-packages", nargs="+", default=[])
    found.add_argument("-n", "--n-timesteps", default=OF_THE_ENTRY)
    found.add_argument("-i", "--trained-agent", default="")
    found.add_argument("-f", "--log-folder", default="logs")
    found.add_argument("--vec-env")
    found.add_argument("--log-interval", type=int, default=-1)
    found.add_argument("--n-eval-envs", type=int, default=1)
    found.add_argument("-optimize", "--optimize-hyperparameters", action="store_true")
    for names in PAIRS:
        found.add_argument(*names, nargs="+", default=[])
    return found


def _check(args: argparse.Namespace) -> None:
    """:raises UsageError: if a value is one with which rl_zoo3 fails obscurely, or does something else"""
    steps = args.n_timesteps
    if steps != OF_THE_ENTRY and not (steps.isdecimal() and int(steps)):  # rl_zoo3 takes the entry's steps for 0 and -5
        raise UsageError(
            f"--n-timesteps (-n) {steps}: not a whole number of at least 1. Without the flag the entry's number counts."
        )
    agent = args.trained_agent
    if agent and not (agent.endswith(".zip") and Path(agent).is_file()):
        is_folder = Path(agent).is_dir()
        hint = f"; it is a folder: name the model in it, such as {Path(agent, args.env)}.zip" if is_folder else ""
        raise UsageError(f"--trained-agent (-i) {agent}: no such .zip file{hint}.")
    if args.log_interval == 0:
        raise UsageError("--log-interval 0: give a number of at least 1, -1 for SB3's own, or -2 for no logging.")
    if args.n_eval_envs < 1:
        raise UsageError(f"--n-eval-envs {args.n_eval_envs}: give a number of at least 1.")
    for names in PAIRS:
        name, *short = reversed(names)
        stored(f"{name} ({short[0]})" if short else name, getattr(args, _dest(name)))


def _dest(name: str) -> str:
    """Where argparse stores a flag."""
    return name.removeprefix("--").replace("-", "_")


def run(argv: list[str]) -> int:
    """train an agent through rl_zoo3; all flags of rl_zoo3's train work"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("train needs rl_zoo3: pip install 'sb3-stable-ppo[zoo]'.")
    own, flags = parser().parse_known_args(argv)
    args, _ = _of_rl_zoo3().parse_known_args(flags)
    options = worker_options(own)
    if own.seeds is None and (own.workers, own.ray) != (1, None):
        raise UsageError("--workers and --ray are for several runs: --seeds 0-9.")

    import rl_zoo3.import_envs  # noqa: F401  # registers rl_zoo3's envs

    from sb3_stable_ppo.zoo.registry import register

    register()
    if own.help:
        show_help(parser(), "rl_zoo3's train", lambda: _train(args, ["--help"], own, [], None))
        return 0
    if own.seeds is not None and own.resume not in (None, AUTO):
        raise UsageError(f"--resume {own.resume} is one run, and --seeds several: give --resume {AUTO} or one of them.")
    goes_on = None if own.seeds is not None else how_it_goes_on(own, args, argv)
    if goes_on is not None:
        if has_ended(goes_on, own):
            return 0
        task = own.task
        own, flags = parser().parse_known_args(goes_on.argv)
        own.task = task
        args, _ = _of_rl_zoo3().parse_known_args(flags)
    import_packages(args.gym_packages)
    check_env(args.env)
    _check(args)
    if own.check_determinism:
        return check_determinism_of(own, [*flags, *_passed_on(own)])
    if own.seeds is not None:
        return _train_seeds(own, flags, options, args.log_folder)
    finished = move_dead_attempt(Path(args.log_folder), own.task) if own.task and goes_on is None else None
    if finished is not None:  # its process was killed while it wrote the report
        print_results(finished)
        if not own.no_report:
            leave_report(finished)
        print_next(finished)
        return 0
    return _train(args, flags, own, kept(argv), goes_on)


def _without_vec_env(flags: list[str]) -> list[str]:
    of_vec_env = BriefParser(prog=f"{PROGRAM} train", add_help=False, allow_abbrev=False)
    of_vec_env.add_argument("--vec-env")
    return of_vec_env.parse_known_args(flags)[1]


def _passed_on(own: argparse.Namespace) -> list[str]:
    """Flags of ours for each of several runs."""
    given = vars(own)
    found = [name for name in SWITCHES if given[_dest(name)]]
    for name in PASSED_ON:
        found += [] if given[_dest(name)] is None else [name, str(given[_dest(name)])]
    return found


def _train_seeds(own: argparse.Namespace, flags: list[str], options: WorkerOptions, log_folder: str) -> int:
    """A run for each seed; exit status 0 if all were trained to their end."""
    of_seed = BriefParser(prog=f"{PROGRAM} train", add_help=False, allow_abbrev=False)
    of_seed.add_argument("--seed", type=non_negative_int, default=0)
    args, flags = of_seed.parse_known_args(flags)
    numbers = parse_seeds(own.seeds, args.seed)
    if is_count(own.seeds):
        print(f"{PROGRAM}: {meaning_now(numbers)}", file=sys.stderr)
    with ignored(CHECKPOINT_SIGNAL):  # which a scheduler sends to all processes of a job
        runs = train_seeds(numbers, [*flags, *_passed_on(own)], log_folder=log_folder, **asdict(options))
    return int([run.status for run in runs.values()] != [FINISHED] * len(numbers))


def _train(
    args: argparse.Namespace, flags: list[str], own: argparse.Namespace, arguments: list[str], goes_on: GoesOn | None
) -> int:
    """One run of rl_zoo3's train, with our manager in the place of its own; exit status 0 unless it was interrupted."""
    import rl_zoo3.train

    from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions
    from sb3_stable_ppo.zoo.determinism import recorded_manager
    from sb3_stable_ppo.zoo.manager import StableExperimentManager
    from sb3_stable_ppo.zoo.quiet import without_other_types
    from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file
    from sb3_stable_ppo.zoo.resumed_manager import resumed_manager

    defaults, vec_env = ["--algo", args.algo], args.vec_env
    flags = _without_vec_env(flags)  # rl_zoo3 knows two words; the manager checks ours
    if args.algo in ALGORITHMS:
        defaults += ["--conf-file", str(config_file(args.algo))]
    if not own.no_progress:
        defaults += ["--progress"]
    manager_class = StableExperimentManager if own.record_run is None else recorded_manager(own.record_run)
    if goes_on is not None:
        manager_class = resumed_manager(goes_on.run, goes_on.n_timesteps)
    managers: list[StableExperimentManager] = []

    def make_manager(*args: object, **kwargs: object) -> StableExperimentManager:
        managers.append(manager_class(*args, **kwargs))  # type: ignore[arg-type]
        managers[-1].vec_env_flag, managers[-1].task = vec_env, own.task
        managers[-1].args.vec_env = vec_env or managers[-1].args.vec_env  # for args.yml
        managers[-1].stop_at_return, managers[-1].has_health = own.stop_at_return, not own.no_health
        managers[-1].arguments = arguments
        managers[-1].checkpoints = CheckpointOptions(
            own.checkpoint_minutes, own.checkpoint_steps, not own.no_checkpoint_replay_buffer
        )
        return managers[-1]

    with (
        patched(rl_zoo3.train, "ExperimentManager", make_manager),
        patched(sys, "argv", [f"{PROGRAM} train", *defaults, *flags]),
        patched(argparse.ArgumentParser, "error", brief_error),
        handled(signal.SIGTERM),
        without_other_types(),
        ignored(CHECKPOINT_SIGNAL),  # outside training there is nothing to save
    ):
        try:
            rl_zoo3.train.train()
        except Exception as error:
            if isinstance(error, UsageError) or any(manager.is_set_up for manager in managers):
                raise
            raise UsageError(f"train: {described(error)}") from error
        finally:
            for manager in (each for each in managers if each.has_trained):
                print_results(Path(manager.save_path))
                if not own.no_report:
                    leave_report(Path(manager.save_path))
                print_next(Path(manager.save_path))
    ended_by = next((manager.interrupted_by for manager in managers if manager.interrupted_by), None)
    return 0 if ended_by is None else 128 + ended_by
