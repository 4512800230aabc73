"""
rl_zoo3's own tuning (``-optimize``, ``--trial-id``), which loses what the YAML file says of the network and of the
schedule (zoo#431): merged here, and over our search space where the policy is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.schedules.learning_rate import make_schedule
from sb3_stable_ppo.studies.space import SEARCHED, WITHOUT_CALLBACKS, as_hyperparams, sample, version_of
from sb3_stable_ppo.studies.storage import is_file
from sb3_stable_ppo.zoo.hyperparams import find_policy
from sb3_stable_ppo.zoo.overrides import merged_policy_kwargs, read_policy_kwargs
from sb3_stable_ppo.zoo.registry import ALGORITHMS


@contextmanager
def merged_sampling(algo: str, hyperparams: Mapping[str, Any], n_envs: int, n_timesteps: int) -> Iterator[None]:
    """
    Within, what rl_zoo3 samples for a trial is merged into the configuration, and for our algorithms with our policies
    it is what ``tune`` searches.

    :param algo: such as ``stable_ppo``
    :param hyperparams: of the configuration, as rl_zoo3 has prepared them for the model
    :param n_envs: of a trial
    :param n_timesteps: of a trial
    """
    samplers = cast(dict[str, Callable[..., dict[str, Any]]], HYPERPARAMS_SAMPLER)
    stock = samplers[algo]
    policy = hyperparams["policy"]
    policy = policy if isinstance(policy, type) else find_policy(policy, ALGOS[algo], "policy")
    ours = algo in ALGORITHMS and "norm" in keywords_of(policy)

    def sampler(trial: Any, *args: Any) -> dict[str, Any]:
        if not ours:
            return with_policy_kwargs(stock(trial, *args), hyperparams)
        known = {name: hyperparams[name] for name in ("n_steps", "policy_kwargs", "guards") if name in hyperparams}
        version = min(version_of(trial), WITHOUT_CALLBACKS)  # rl_zoo3 gives all of it to the algorithm
        params = sample(trial, guarded=True, n_timesteps=n_timesteps, n_envs=n_envs, version=version)
        entry = as_hyperparams(params, {**known, "n_envs": n_envs}, n_timesteps)
        rate = entry["learning_rate"]
        entry["learning_rate"] = make_schedule(**rate) if isinstance(rate, dict) else rate
        return {name: entry[name] for name in SEARCHED if name in entry}

    samplers[algo] = sampler
    try:
        yield
    finally:
        samplers[algo] = stock


def saved_params(
    load_trial: Callable[..., dict[str, Any]], storage: str | None, study_name: str | None, trial_id: int
) -> dict[str, Any]:
    """
    The parameters of a trial in a study.

    :param load_trial: rl_zoo3's ``ExperimentManager.load_trial``
    :param storage: a database's URL or a file
    :param study_name: the study's name
    :param trial_id: the trial's number, 0 included
    :raises UsageError: if there is no such trial
    """
    what = f"--trial-id {trial_id} --study-name {study_name}"
    if not storage or not study_name:
        raise UsageError("--trial-id needs --storage and --study-name, where the trial is.")
    if is_file(storage) and not Path(storage).is_file():
        raise UsageError(f"{what}: there is no file {storage}.")
    try:
        return load_trial(storage, study_name, trial_id, convert=False)
    except IndexError:
        raise UsageError(f"{what}: the study has fewer trials; the first is 0.") from None
    except Exception as error:
        raise UsageError(f"{what}: {described(error)}") from error


def with_trial(algo: str, entry: Mapping[str, Any], params: Mapping[str, Any], n_timesteps: int) -> dict[str, Any]:
    """
    :param algo: such as ``stable_ppo``
    :param entry: of a YAML file
    :param params: of a trial, of ``tune``, of ``-optimize``, or of rl_zoo3 alone
    :param n_timesteps: of the run that is to be made
    :return: the entry with the trial in it
    """
    if "one_minus_gae_lambda" in params and "init_gain" in params:
        return as_hyperparams(params, entry, n_timesteps)
    return {**entry, **with_policy_kwargs(HYPERPARAMS_CONVERTER[algo](dict(params)), entry)}


def with_policy_kwargs(sampled: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param sampled: hyperparameters of a trial
    :param entry: those of the configuration
    :return: the trial's, with the configuration's ``policy_kwargs`` but for those that it has itself
    """
    known = read_policy_kwargs(entry.get("policy_kwargs") or {}, "policy_kwargs")
    return {**sampled, "policy_kwargs": merged_policy_kwargs(known, sampled.get("policy_kwargs") or {})}
