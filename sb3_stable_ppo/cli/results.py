"""
What ``train`` tells of a run when it has ended: the verdict, the return, the layers, the report, and what to type next.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_stable_ppo.cli.gym_packages import gym_packages_flag, packages_of
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import PROGRAM, command_line
from sb3_stable_ppo.report.write import missing, write_report
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import EVALUATION, finite

if TYPE_CHECKING:
    from rich.table import Table

    from sb3_stable_ppo.health.figures import Figures


def print_results(folder: Path) -> None:
    """
    Where a run's results are, the verdict on it, its return, and how its layers fared.

    :param folder: the run folder; nothing is printed if there is none
    """
    if not folder.is_dir():
        return
    from rich.markup import escape

    from sb3_stable_ppo.common.console import Console
    from sb3_stable_ppo.report.verdict import verdict_of
    from sb3_stable_ppo.snapshots.timeline import timeline_of

    reader, console = RunReader(folder), Console(highlight=False)
    status = reader.facts.get("status", "unknown")
    console.print(f"\nResults ({status}): [bold]{escape(str(folder))}[/bold]", soft_wrap=True)
    try:
        run = read_run(folder)
    except UsageError:  # it has ended before anything was measured
        return
    verdict = verdict_of(run, timeline_of(reader))
    console.print(f"Verdict: [bold]{verdict.word}[/bold]. {escape(verdict.text)}", soft_wrap=True)
    for line in returns_told(run):
        console.print(line, soft_wrap=True)
    if run.health:
        console.print(_layers_table(run.health[0], run.health[-1]))


def returns_told(run: RunData) -> Iterator[str]:
    """
    :param run: that has ended
    :return: a line on the return in training, and one on that of evaluations, as far as there are any
    """
    rollout = run.health[-1].get("rollout") if run.health else None
    if rollout:
        episodes = "episode" if rollout["episodes"] == 1 else f"{rollout['episodes']} episodes"
        mean = rollout["ep_rew_mean"]  # health.jsonl has null for NaN
        told = "not finite" if mean is None else f"{mean:,.1f}"
        yield f"Return: {told}, the mean of the last {episodes} of training."
    elif run.health:
        yield "Return: none yet, since no episode of training has ended."
    evaluations = finite(run.curves.get(EVALUATION))
    if evaluations is not None:
        best = int(evaluations.values.argmax())
        yield (
            f"Evaluations: {evaluations.values[-1]:,.1f} at step {evaluations.steps[-1]:,.0f}; the best "
            f"{evaluations.values[best]:,.1f} at step {evaluations.steps[best]:,.0f} (best_model.zip)."
        )


def print_next(folder: Path) -> None:
    """
    The commands that look further into a run.

    :param folder: the run folder; nothing is printed if it has no model
    """
    commands = list(next_commands(folder))
    if commands:
        width = max(len(command) for command, _ in commands)
        print("Next:", *(f"  {command:{width}}  # {words}" for command, words in commands), sep="\n")


def next_commands(folder: Path) -> Iterator[tuple[str, str]]:
    """
    :param folder: the run folder
    :return: each command, and what it is for
    """
    facts = RunReader(folder).facts if folder.is_dir() else {}
    env, algorithm = str(facts.get("env")), facts.get("algo")
    number = folder.name.rpartition("_")[2]
    if not (folder / f"{env.replace('/', '-')}.zip").is_file() or not number.isdecimal():
        return
    run, logs = str(folder), str(folder.parent.parent)
    packages = gym_packages_flag(packages_of(facts))
    algo = [] if algorithm == "stable_ppo" else ["--algo", str(algorithm)]
    played = [*algo, "--env", env, *packages, "-f", logs, "--exp-id", number]
    yield command_line("report", run), "the run as a page; with other runs, compared"
    yield command_line("doctor", run, *packages), "its layers beside healthy ranges"
    if facts.get("status") != "collapsed":  # such a policy may not be able to act
        yield command_line("enjoy", *played), "watch it play"


def _layers_table(first: Figures, last: Figures) -> Table:
    from rich.table import Table

    table = Table(title="Live units per layer (a positive output on some of 64 observations)")
    table.add_column("layer")
    table.add_column("units", justify="right")
    table.add_column(f"step {first['step']:,}", justify="right")
    table.add_column(f"step {last['step']:,}", justify="right")
    for layer, figures in last["layers"].items():
        before = first["layers"].get(layer, figures)
        table.add_row(layer, *(str(int(n)) for n in (figures["units"], before["live"], figures["live"])))
    return table


def leave_report(folder: Path) -> None:
    """
    Write ``report.html``, if plotly is there. A run that is done is not lost over its picture.

    :param folder: the run folder; nothing is written if there is none
    """
    if not folder.is_dir() or missing():
        return
    try:
        write_report([read_run(folder)], folder / "report.html")
    except Exception as error:
        print(f"{PROGRAM}: no report: {type(error).__name__}: {error}", file=sys.stderr)
    else:
        print(f"Report: {folder / 'report.html'}")
