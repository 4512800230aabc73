"""
Measurements one after the other, each in a process of its own, so that neither memory nor threads are shared; variants
take turns.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any


def turns(variants: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """
    The order of the measurements: one variant after the other, and back in every second round, so that a machine that
    gets slower by the minute favours none.

    >>> list(turns(["stock", "ours"], 2))
    [(0, 'stock'), (0, 'ours'), (1, 'ours'), (1, 'stock')]

    :param variants: the variants to measure
    :param rounds: how often each is measured
    :return: the number of the round, from 0, and a variant
    """
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else reversed(variants):
            yield number, variant


def measure(cells: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], dict[str, float]]]:
    """
    Train one cell after the other, each in a process of its own.

    :param cells: arguments of :func:`sb3_stable_ppo.bench.training.train`
    :raises RuntimeError: with the last line of what a process said when it failed
    """
    with TemporaryDirectory() as folder:
        figures = Path(folder, "figures.json")  # not on its standard output, to which a simulator may print at its end
        for cell in cells:
            command = [sys.executable, "-m", "sb3_stable_ppo.bench", json.dumps(dict(cell)), str(figures)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                told = done.stderr.strip().splitlines() or ["no reason given"]
                raise RuntimeError(f"{cell['variant']}: {told[-1]}")
            yield cell, json.loads(figures.read_text())


def table(rows: Iterable[tuple[str, Mapping[str, float]]], base: str) -> str:
    """
    A Markdown table: medians and ranges by variant, in the order in which they come.

    :param rows: a variant and its figures, one for each time that it was measured
    :param base: the variant that the others are compared with
    """
    found: dict[str, list[Mapping[str, float]]] = {}
    for variant, figures in rows:
        found.setdefault(variant, []).append(figures)

    def middle(variant: str, name: str) -> float:
        return median(figures[name] for figures in found[variant])

    lines = [
        "| | steps/s, median (range) | times stock | warm-up, s | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for variant, measured in found.items():
        speeds = sorted(figures["steps_per_s"] for figures in measured)
        times = f"{median(speeds) / middle(base, 'steps_per_s'):.2f}" if base in found else "-"
        peak = middle(variant, "peak_mib")
        lines.append(
            f"| {variant} | {median(speeds):.0f} ({speeds[0]:.0f} to {speeds[-1]:.0f}) | {times} | "
            f"{middle(variant, 'warm_up_s'):.0f} | {'-' if math.isnan(peak) else f'{peak:.0f}'} |"
        )
    return "\n".join(lines)
