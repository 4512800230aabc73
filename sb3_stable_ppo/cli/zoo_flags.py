"""
The flags of rl_zoo3's train in ``tune``: those that mean something here work by the zoo's names, the others say what to
use.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from sb3_stable_ppo.common.errors import UsageError, described

NO_WANDB = "tune does not log to Weights & Biases; each trial's run folder has TensorBoard's logs"
REFUSED: dict[tuple[str, ...], str] = {
    ("-tb", "--tensorboard-log"): "each trial logs to its run folder in LOG_FOLDER/STUDY/trials",
    ("-i", "--trained-agent"): "trials begin with new weights; `train -i` goes on with a model",
    ("--truncate-last-trajectory",): "it is for replay buffers, which PPO has not",
    ("--num-threads",): "set the variable OMP_NUM_THREADS, which each worker reads (without it: 1)",
    ("--log-interval",): "trials log each update to their run folders",
    ("--eval-freq",): "--n-evaluations says how often each run is evaluated",
    ("--optimization-log-path",): "evaluations and best models are in LOG_FOLDER/STUDY/trials; -f chooses LOG_FOLDER",
    ("--n-eval-envs",): "each evaluation has one env; --eval-episodes says how many episodes it plays",
    ("--save-freq",): "each run keeps its last model and its best one",
    ("--save-replay-buffer",): "it is for replay buffers, which PPO has not",
    ("--vec-env",): "write it as a hyperparameter: --hyperparams \"vec_env:'subproc'\"",
    ("--device",): "set the variable CUDA_VISIBLE_DEVICES; an empty one keeps trials on the CPU",
    ("--trial-id",): "`train --trial-id` trains a trial of a study",
    ("--verbose",): "what workers print is in LOG_FOLDER/STUDY/workers",
    ("--eval-env-kwargs",): "evaluations use --env-kwargs",
    ("-uuid", "--uuid"): "each trial has a folder of its own",
    ("--track",): NO_WANDB,
    ("--wandb-project-name",): NO_WANDB,
    ("--wandb-entity",): NO_WANDB,
    ("--wandb-group",): NO_WANDB,
    ("-tags", "--wandb-tags"): NO_WANDB,
}
"""Flags of rl_zoo3's train that have no meaning in ``tune``, and what to use instead."""
ALWAYS: tuple[tuple[str, ...], ...] = (("-optimize", "--optimize-hyperparameters"), ("-P", "--progress"))
"""Flags that ask for what ``tune`` does anyway."""


class _Refuse(argparse.Action):
    def __call__(self, *_: Any) -> NoReturn:
        names = tuple(self.option_strings)
        raise UsageError(f"tune does not take rl_zoo3's {names[-1]}: {REFUSED[names]}.")


class _Ignore(argparse.Action):
    def __call__(self, *_: Any) -> None:
        pass


def add_zoo_flags(parser: argparse.ArgumentParser) -> None:
    """
    Add the flags that are accepted without effect, and those that are refused. The help does not show them.

    :param parser: of ``tune``
    """
    for names in ALWAYS:
        parser.add_argument(*names, nargs=0, action=_Ignore, dest=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for names in REFUSED:
        parser.add_argument(*names, nargs="*", action=_Refuse, dest=argparse.SUPPRESS, help=argparse.SUPPRESS)


def stored(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """
    Read ``name:value`` as rl_zoo3's ``StoreDict`` does, which evaluates the value as Python.

    :param flag: where the texts come from, for the error
    :param texts: such as ``["n_steps:256", "policy_kwargs:dict(net_arch=[32])"]``
    :raises UsageError: if a value is not Python
    """
    from rl_zoo3.utils import StoreDict

    found: dict[str, Any] = {}
    for text in texts:
        namespace = argparse.Namespace()
        try:
            StoreDict([], "found")(argparse.ArgumentParser(), namespace, [text])  # type: ignore[no-untyped-call]
        except Exception as error:
            name, _, value = text.partition(":")
            example = f", as in \"{name}:'{value}'\"" if isinstance(error, NameError) and value.isidentifier() else ""
            hint = f"write name:value; a value is Python, so text has quotes of its own{example}"
            raise UsageError(f"{flag} {text}: {described(error)} ({hint}).") from None
        found.update(namespace.found)
    return found
