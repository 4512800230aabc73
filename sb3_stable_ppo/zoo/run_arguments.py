"""
The arguments of a run of ``train``, as ``run.json`` keeps them: by them the run goes on, and is found again. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

ALIASES = {
    "-n": "--n-timesteps",
    "-f": "--log-folder",
    "-i": "--trained-agent",
    "-tb": "--tensorboard-log",
    "-params": "--hyperparams",
    "-conf": "--conf-file",
    "-uuid": "--uuid",
    "-optimize": "--optimize-hyperparameters",
    "-P": "--progress",
    "-tags": "--wandb-tags",
}
"""Short names of rl_zoo3's flags."""
DEFAULTS = {"--algo": "stable_ppo", "--env": "CartPole-v1"}
OF_THE_CALL = ("--resume", "--task", "--log-folder", "--seeds", "--workers", "--ray", "--worker-gpus", "--storage")
"""Flags that say where and how often a run is made, and not what it is; and the storage, which may have a password."""
SHOWN = (
    "--no-progress",
    "--progress",
    "--no-report",
    "--verbose",
    "--device",
    "--num-threads",
    "--checkpoint-minutes",
    "--checkpoint-steps",
    "--no-checkpoint-replay-buffer",
)
"""Flags by which two runs may differ that are otherwise the same."""
VALUE = re.compile(r"-[\d.].*")
"""A word that begins with a minus and is a number."""

Groups = dict[str, tuple[str, ...]]
"""Values by the long name of their flag."""


def grouped(argv: Iterable[str]) -> Groups:
    """
    >>> grouped(["-n", "100", "--eval-freq=-1", "--no-report"])
    {'--n-timesteps': ('100',), '--eval-freq': ('-1',), '--no-report': ()}

    :param argv: of ``train``; of a flag that is given twice, the last counts
    """
    groups: Groups = {}
    name = ""
    for word in argv:
        if not word.startswith("-") or VALUE.fullmatch(word):
            groups[name] = (*groups.get(name, ()), word)
            continue
        flag, has_value, value = word.partition("=") if word.startswith("--") else (word, "", "")
        name = ALIASES.get(flag, flag)
        groups[name] = (value,) if has_value else ()
    return groups


def kept(argv: Iterable[str]) -> list[str]:
    """
    What ``run.json`` keeps.

    :param argv: of ``train``
    """
    return flat({name: values for name, values in grouped(argv).items() if name not in OF_THE_CALL})


def flat(groups: Groups) -> list[str]:
    """
    Back again.

    :param groups: of :func:`grouped`
    """
    return [word for name, values in groups.items() for word in ((name, *values) if name else values)]


def are_of_one_run(first: Sequence[str], second: Sequence[str]) -> bool:
    """
    Whether two calls ask for the same run: env, algorithm, seed, steps and all else but what is only shown.

    >>> are_of_one_run(["-n", "100", "--no-report"], ["--n-timesteps", "100", "--env", "CartPole-v1"])
    True

    :param first: arguments of ``train``
    :param second: of another call
    """
    return _identity(first) == _identity(second)


def _identity(argv: Sequence[str]) -> Groups:
    found = grouped(argv)
    known: Groups = {name: (value,) for name, value in DEFAULTS.items()}
    return {**known, **{name: values for name, values in found.items() if name not in (*OF_THE_CALL, *SHOWN)}}
