"""
A study from its plan to its best trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import TrialState
from rl_zoo3.utils import ALGOS

from sb3_stable_ppo import __version__
from sb3_stable_ppo.common.checks import number, one_of, unknown, whole_number
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import write_atomically
from sb3_stable_ppo.common.packages import import_packages
from sb3_stable_ppo.common.seeds import parse_seeds
from sb3_stable_ppo.envs.registry import check_env
from sb3_stable_ppo.parallel.options import WorkerOptions
from sb3_stable_ppo.studies.page import page_of
from sb3_stable_ppo.studies.space import ROLLOUT, SEARCHED, SEARCHED_IN, SPACES, VERSION, searched_intervention
from sb3_stable_ppo.studies.storage import HEARTBEAT, is_file, is_missing, open_storage
from sb3_stable_ppo.studies.study import (
    PRUNERS,
    SAMPLERS,
    STARTUP_TRIALS,
    effective_trials,
    goal_of,
    n_remaining,
    open_study,
    plan_of,
    requeue_dead_trials,
)
from sb3_stable_ppo.tuning.checkpoints import remove_all_checkpoints
from sb3_stable_ppo.tuning.results import show, training_command, write_best
from sb3_stable_ppo.tuning.rounds import Jobs, do_trials
from sb3_stable_ppo.tuning.trial import Plan, base_entry
from sb3_stable_ppo.tuning.worker import arguments
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions
from sb3_stable_ppo.zoo.registry import ALGORITHMS, config_file, register


def tune(
    env: str,
    n_timesteps: int,
    *,
    algo: str = "stable_ppo",
    trials: int = 50,
    seeds: int | str | Iterable[int] = 1,
    seed: int = 0,
    n_evaluations: int = 5,
    eval_episodes: int = 5,
    pruner: str = "median",
    sampler: str = "tpe",
    n_startup_trials: int = STARTUP_TRIALS,
    health: bool = False,
    conf_file: str | Path | None = None,
    hyperparams: Mapping[str, Any] | None = None,
    plots: bool = True,
    log_folder: str | Path = "logs",
    study: str | None = None,
    storage: str | Path | None = None,
    heartbeat: int = HEARTBEAT,
    checkpoint_minutes: float | None = None,
    checkpoint_steps: int | None = None,
    gym_packages: Sequence[str] = (),
    workers: int = 1,
    ray: str | None = None,
    worker_gpus: float = 0.0,
) -> Study:
    """
    Search for hyperparameters, as ``sb3-stable-ppo tune`` does. A study that exists already goes on.

    Trials run in processes of their own. They find an environment of yours through ``gym_packages``.

    :param env: id of the environment
    :param n_timesteps: environment steps of each run
    :param algo: ``stable_ppo``, ``stable_ppo_mask`` or ``stable_ppo_lstm``
    :param trials: in all, over all calls and workers
    :param seeds: runs of each trial, whose mean counts: how many (``5``), or which (``"0-9"``, ``"1,3,5"``, ``[1, 3]``)
    :param seed: the first of a number of seeds
    :param n_evaluations: of each run
    :param eval_episodes: episodes of each evaluation
    :param pruner: ``median``, ``halving`` or ``none``
    :param sampler: ``tpe`` or ``random``
    :param n_startup_trials: trials that are drawn at random before TPE begins
    :param health: whether the least share of live units is a second objective
    :param conf_file: YAML file with the configuration that trials change; None: this package's
    :param hyperparams: of all trials, in place of the configuration's, such as ``{"n_steps": 256}``, which is then not
        searched
    :param plots: whether ``study.html`` with Optuna's plots is written
    :param log_folder: the study's files are in ``LOG_FOLDER/STUDY``
    :param study: the study's name; None: ``tune_ENV``
    :param storage: URL of a database, or a journal file; None: ``LOG_FOLDER/STUDY/journal.log``
    :param heartbeat: seconds between two heartbeats of a trial in a database; after three missed ones it is dead
    :param checkpoint_minutes: minutes between two checkpoints of a run, from which a trial whose worker died goes on;
        None: 10; 0: none, or as ``checkpoint_steps`` says
    :param checkpoint_steps: environment steps between two checkpoints, beside the minutes; None: minutes alone count
    :param gym_packages: modules to import, which register the environment
    :param workers: processes at once; 0 only shows the study, whatever settings it was begun with
    :param ray: address of a Ray cluster for the workers, or ``auto``; it needs a database
    :param worker_gpus: GPUs of each worker on Ray; may be a fraction
    :return: the study, of which at least one trial is complete; its best configuration is in ``best.yml``, or with
        ``health`` those of the Pareto front in ``pareto_NUMBER.yml``
    :raises UsageError: if an argument is wrong, the storage cannot be used, the study is one of other settings, trial
        after trial fails, or no trial is complete at the end
    :raises KeyboardInterrupt: at Ctrl-C and SIGTERM; the same call goes on
    """
    options = WorkerOptions(workers, ray, worker_gpus)
    if ray is not None and (storage is None or is_file(str(storage))):
        raise UsageError(
            "ray (--ray) needs storage (--storage) with the URL of a database that all its machines reach."
        )
    import_packages(gym_packages)
    check_env(env)
    name = str(study or f"tune_{env.replace('/', '-')}")
    if Path(name).name != name or name == "..":
        raise UsageError(f"study (--study) {name}: give a name, not a path.")
    folder = Path(log_folder) / name
    where = str(storage or folder / "journal.log")
    try:
        one_of(pruner, PRUNERS, "pruner")
        one_of(sampler, SAMPLERS, "sampler")
        for what, value in (("health", health), ("plots", plots)):
            if not isinstance(value, bool):
                raise ValueError(f"{what} must be True or False, not {value!r}.")
        n_startup_trials = whole_number(n_startup_trials, "n_startup_trials")
        checkpoints = CheckpointOptions(
            None if checkpoint_minutes is None else number(checkpoint_minutes, "checkpoint_minutes"),
            None if checkpoint_steps is None else whole_number(checkpoint_steps, "checkpoint_steps", 1),
        )
        trials, heartbeat = whole_number(trials, "trials", 1), whole_number(heartbeat, "heartbeat", 1)
        n_timesteps, seed = whole_number(n_timesteps, "n_timesteps", 1), whole_number(seed, "seed")
        plan = Plan(
            algo=algo,
            env=env,
            base=_base(algo, env, conf_file, hyperparams or {}),
            n_timesteps=n_timesteps,
            seeds=tuple(parse_seeds(seeds, seed)),
            n_evaluations=whole_number(n_evaluations, "n_evaluations", 1),
            eval_episodes=whole_number(eval_episodes, "eval_episodes", 1),
            health=health,
            folder=folder / "trials",
            held=tuple(name for name in ROLLOUT if name in (hyperparams or {})),
        )
    except ValueError as error:
        raise UsageError(f"tune: {error}") from None

    if not workers:
        found, plan = _shown_study(name, where, pruner, heartbeat, plan.folder)
    else:
        found = _study_of(plan, name, where, pruner, heartbeat)
        requeue_dead_trials(found, heartbeat)
        goal = goal_of(found, trials)
        print(f"Study {name}: {trials} trials, {n_remaining(found, goal)} of them to do.", flush=True)
        drawn = (sampler, n_startup_trials)
        call = arguments(name, plan.folder, goal, heartbeat, pruner, gym_packages, *drawn, checkpoints)
        jobs = Jobs(options, call, folder, where)
        try:
            do_trials(found, goal, heartbeat, jobs)
        except KeyboardInterrupt:
            show(found)
            print("Interrupted: the same command goes on, also with the trials that were running.")
            raise
        remove_all_checkpoints(plan.folder, found)
    show(found)
    _check_any_succeeded(found)
    best = write_best(found, plan, folder, gym_packages)
    for path in best:
        print(path)
    page = page_of(found) if plots else None
    if page is not None:
        write_atomically(folder / "study.html", page.encode())
        print(folder / "study.html")
    print(f"To train {'the best' if len(best) == 1 else 'that of the best return'}:")
    print(f"  {training_command(plan, best[0], gym_packages)}")
    return found


def _base(algo: str, env: str, conf_file: str | Path | None, hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that trials change, checked before anything is written."""
    register()
    if algo not in ALGORITHMS:
        raise UsageError(f"tune: {unknown('algo', algo, ALGORITHMS)}")
    searched = [name for name in hyperparams if name in SEARCHED and name not in (*ROLLOUT, *SEARCHED_IN)]
    for key, names in SEARCHED_IN.items():
        given = hyperparams.get(key)
        searched += [f"{name} in {key}" for name in given if name in names] if isinstance(given, Mapping) else []
    callbacks = hyperparams.get("callback")
    listed = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    searched += [f"{name} in callback" for name in map(searched_intervention, listed) if name]
    if searched:
        raise UsageError(f"hyperparams (--hyperparams) has {', '.join(searched)}, which tune searches: leave it out.")
    return base_entry(Path(conf_file or config_file(algo)), env, ALGOS[algo], hyperparams)


def _shown_study(name: str, where: str, pruner: str, heartbeat: int, folder: Path) -> tuple[Study, Plan]:
    """A study that is only looked at, with the plan that it was begun with, whatever the call says."""
    if is_missing(where):
        raise UsageError(f"storage (--storage) {where}: there is no such file, and no study to show.")
    storage = open_storage(where, heartbeat)
    known = plan_of(storage, name)
    plan = Plan.of(known, folder)
    return open_study(storage, name, known, pruner, plan.seeds[0], 2 if plan.health else 1), plan


def _study_of(plan: Plan, name: str, where: str, pruner: str, heartbeat: int) -> Study:
    """Open a study, or make it. One of an older search space goes on in it."""
    storage = open_storage(where, heartbeat)
    plan = plan._replace(search_space=_space_of(storage, name))
    facts = {**plan.facts, "heartbeat": heartbeat, "package": __version__}
    return open_study(storage, name, facts, pruner, plan.seeds[0], 2 if plan.health else 1)


def _space_of(storage: BaseStorage, name: str) -> int:
    """The version of the search space that a study was begun in; this package's own if it is new."""
    known: Mapping[str, Any] = {}
    with suppress(KeyError):
        known = storage.get_study_user_attrs(storage.get_study_id_from_name(name)).get("plan") or {}
    version = known.get("search_space")
    return version if version in SPACES else VERSION


def _check_any_succeeded(study: Study) -> None:
    """:raises UsageError: if there are trials, and all of them failed"""
    found = list(effective_trials(study).values())
    if found and all(trial.state is TrialState.FAIL for trial in found):
        errors = [trial.user_attrs["error"] for trial in found if "error" in trial.user_attrs]
        cause = errors[-1].rstrip(".") if errors else "their workers died"
        raise UsageError(f"All {len(found)} trials of the study {study.study_name!r} failed, the last with {cause}.")
