"""
``train --resume``: which run goes on, with which arguments, or that it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS, MANIFEST
from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.runs.folder import RunReader, check_format
from sb3_stable_ppo.zoo.run_arguments import SHOWN, Groups, are_of_one_run, flat, grouped

AUTO = "auto"
"""``--resume auto``: whatever the log folder holds of this run."""
CHANGEABLE = ("--n-timesteps", *SHOWN)
"""Flags that may differ from those of the first call."""
SAME = {"--env": "env", "--algo": "algo", "--seed": "seed"}
"""Flags that may be given again, and the fact of ``run.json`` that they have to agree with."""


class StartedRun(NamedTuple):
    """
    A run that ``train`` has begun.

    :param folder: the run folder
    :param facts: its ``run.json``
    """

    folder: Path
    facts: Mapping[str, Any]

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint, sound or not."""
        return bool(self._checkpoints())

    def _checkpoints(self) -> list[Path]:
        """The newest first."""
        found = (self.folder / CHECKPOINTS).glob("[0-9]*")
        return sorted((path for path in found if path.name.isdigit()), key=lambda path: path.name, reverse=True)

    def _newest_manifest(self) -> Mapping[str, Any]:
        """Of the newest checkpoint that has one which can be read; empty: there is none."""
        for folder in self._checkpoints():
            with suppress(OSError, ValueError):
                manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
                return manifest
        return {}

    @property
    def step(self) -> int:
        """Environment steps of the newest checkpoint."""
        return int(self._newest_manifest().get("step") or 0)

    @property
    def total(self) -> int:
        """Environment steps that the whole run is to have, by what was asked of it last."""
        facts = self.facts
        return int(
            facts.get("ends_at")
            or self._newest_manifest().get("total_timesteps")  # with the steps of a model that it began with
            or facts.get("n_timesteps")
            or 0
        )

    @property
    def is_ended_by_callback(self) -> bool:
        """Whether a callback has ended it."""
        return self.facts.get("status") == "stopped" and not self.facts.get("interrupted_by")

    @property
    def has_ended(self) -> bool:
        """Whether it has nothing left to do of what was asked of it last."""
        return self.facts.get("status") == "finished" or self.is_ended_by_callback

    @property
    def total_for_auto(self) -> int | None:
        """
        Environment steps that the first call has asked for, where ``--resume RUN -n`` has asked for fewer since; None:
        what was asked last counts.
        """
        first = int(self.facts.get("first_ends_at") or 0)
        is_stopped_early = self.has_ended and int(self.facts.get("num_timesteps") or 0) < self.total
        return None if first <= self.total or is_stopped_early else first

    def arguments(self, changes: Groups) -> list[str]:
        """
        Those by which it goes on: of the first call, with the seed that was drawn there.

        :param changes: of :func:`changes_of`
        """
        first = grouped(self.facts["arguments"])
        agent = first.get("--trained-agent", ("",))[0]
        if agent and not Path(agent).is_file():  # it has done its part
            del first["--trained-agent"]
        fixed: Groups = {"--seed": (str(self.facts["seed"]),), "--log-folder": (str(self.folder.parent.parent),)}
        return flat({**first, **fixed, **changes})

    def end(self, n_timesteps: int | None) -> str | None:
        """
        :param n_timesteps: environment steps that the whole run is to have; None: as many as before
        :return: a sentence about a run that has nothing left to do; None: it can go on
        """
        steps = int(self.facts.get("num_timesteps") or 0)
        if not self.has_ended or (n_timesteps is not None and n_timesteps > steps):
            return None
        how = "A callback has ended it" if self.is_ended_by_callback else "It has finished"
        told = f"{self.folder}: nothing is left to do. {how} at step {steps:,}."
        more = f" `--resume {self.folder} -n N` with N above {steps:,} gives it more steps."
        return told + more if self.has_checkpoint else told

    def check_total(self, n_timesteps: int) -> None:
        """
        Of a run that has ended, :meth:`end` tells.

        :param n_timesteps: environment steps that ``-n`` asks for
        :raises UsageError: if a run that has not ended has done as many, and would count as finished at once
        """
        step, total = self.step, self.total
        if self.has_ended or n_timesteps > step or n_timesteps == total:  # all steps are done, but for the end
            return
        raise UsageError(
            f"--resume {self.folder}: -n is the total number of steps; this run stands at {step:,} of {total:,}. Give "
            f"more than {step:,}, or leave -n out."
        )


def run_in(folder: str | Path) -> StartedRun:
    """
    :param folder: a run folder
    :raises UsageError: if it is none that ``train`` has made, or one of a newer format
    """
    what, folder = f"--resume {folder}", Path(folder)
    if len(folder.parts) < 3 or ".." in folder.parts:  # the log folder lies two above it
        folder = folder.resolve()
    if not folder.is_dir():
        hint = f"A run folder such as logs/stable_ppo/CartPole-v1_1 is asked for, or {AUTO}."
        if folder.suffix == ".zip" and folder.is_file():
            raise UsageError(f"{what}: this is a model. {hint} A model is trained on with -i {folder}, in a new run.")
        raise UsageError(f"{what}: there is no such folder. {hint}")
    try:
        facts = RunReader(folder).facts
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: run.json cannot be read ({described(error, 100)}).") from None
    if not facts:
        inside = sorted(str(path.parent) for path in folder.glob("**/run.json"))[:5]
        hint = f" Run folders in it: {', '.join(inside)}." if inside else ""
        raise UsageError(f"{what}: this is no run folder, as it has no run.json.{hint}")
    check_format(facts, folder)
    if not isinstance(facts.get("arguments"), list):
        raise UsageError(
            f"{what}: run.json has no arguments by which the run could go on: `train` of an earlier version or "
            "something else has made it. In Python, resume(run_folder, env) goes on with checkpoints; "
            "`train -i MODEL.zip` begins a new run with a model."
        )
    return StartedRun(folder, facts)


def newest_run(log_folder: str | Path, algo: str, argv: Sequence[str]) -> StartedRun | None:
    """
    The newest run of the same arguments that has ended, or has a checkpoint to go on from.

    :param log_folder: of ``train``
    :param algo: its algorithm
    :param argv: the arguments of ``train``
    :raises UsageError: if it is one of a newer format
    """
    found = []
    for path in Path(log_folder, algo).glob("*/run.json"):
        try:
            facts = RunReader(path.parent).facts
        except (OSError, ValueError):  # no JSON, or no text at all
            continue
        arguments = facts.get("arguments")
        if isinstance(arguments, list) and are_of_one_run(arguments, argv):
            check_format(facts, path.parent)
            found.append(StartedRun(path.parent, facts))
    found.sort(key=lambda run: (str(run.facts.get("started")), run.folder.stat().st_mtime), reverse=True)
    return next((run for run in found if run.end(run.total_for_auto) is not None or run.has_checkpoint), None)


def changes_of(run: StartedRun, argv: Sequence[str]) -> Groups:
    """
    What a call with ``--resume RUN`` changes of the run's arguments.

    :param run: that goes on
    :param argv: of the call
    :raises UsageError: for a flag that contradicts the run
    """
    changes: Groups = {}
    for name, values in grouped(argv).items():
        if name in CHANGEABLE:
            changes[name] = values
        elif name in SAME:
            known = str(run.facts.get(SAME[name]))
            if values != (known,):
                raise UsageError(
                    f"--resume {run.folder}: {name} {' '.join(values)} contradicts the run, which has {known}. Leave "
                    "the flag out."
                )
        elif name not in ("--resume", "--task", "--log-folder"):
            raise UsageError(
                f"--resume {run.folder}: the run goes on with its own settings, so that {name or values[0]} cannot be "
                f"given. Leave it out; {', '.join(CHANGEABLE)} may be given."
            )
    return changes
