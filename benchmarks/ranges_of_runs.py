"""From the runs that healthy_ranges.py has recorded to the package's ranges and the tables of docs/metrics.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from command import markdown
from record import finished
from sb3_stable_ppo.common.layer_names import ACTOR, CONV, CRITIC, layer_kind
from sb3_stable_ppo.health import healthy_ranges as package
from sb3_stable_ppo.health.healthy_ranges import IMAGES, VECTORS

NAME = "healthy_ranges"
FILE = Path(package.__file__).with_name(package.FILE)
PERCENTILES = (5, 95)
ENVS_OF = {IMAGES: ("PongNoFrameskip-v4",), VECTORS: ("CartPole-v1", "Pendulum-v1")}
NETWORKS = {"stock": "SB3's own", "none": "ours, `norm: none`", "layer": "`norm: layer`", "batch": "`norm: batch`"}
KINDS = {CONV: "convolutions", ACTOR: "actor's hidden layers", CRITIC: "critic's hidden layers"}
OF_LAYERS = {
    "live_fraction": "live fraction",
    "fault_fraction": "dead, linear or saturated fraction",
    "dormant_fraction": "dormant fraction",
    "srank_fraction": "srank, as a share of the units",
    "grama_fraction": "GraMa's fraction",
}
OF_PARTS = {
    "features": ("effective_rank", "srank", "pca_rank", "stable_rank", "srank_share", "similarity", "norm_growth"),
    "policy": ("policy_variance", "entropy_share", "action_balance"),
    "update": ("kl", "ratio_excess", "churn"),
    "train": ("approx_kl", "clip_fraction", "explained_variance"),
    "weights": ("norm_growth", "update_ratio"),
    "norms": ("drift",),
}
GROWTH = "`health/weights/norm`, as a multiple of its first value"
Range = list[float]
Row = Mapping[str, Any]


def healthy_runs(observations: str, network: str) -> dict[str, list[Row]]:
    """By env, the runs on record that reached their floor."""
    found: dict[str, list[Row]] = {}
    for row in finished(NAME):
        env = row["cell"]["env"]
        if row["healthy"] and env in ENVS_OF[observations] and row["cell"]["network"] == network:
            found.setdefault(env, []).append(row)
    return found


def values_of(row: Row) -> Iterator[tuple[str, str, str, list[float]]]:
    """Of each figure of a run its part or kind of layer, its name, the layer that has it, and all values."""
    figures = row["figures"]
    for layer, found in figures["layers"].items():
        kind, units = layer_kind(layer), found["units"]
        yield kind, "live_fraction", layer, [value / units for value in found["live"]]
        yield kind, "srank_fraction", layer, [value / units for value in found["srank"]]
        yield kind, "fault_fraction", layer, found["fault_fraction"]
        yield kind, "dormant_fraction", layer, found["dormant_fraction"]
        yield kind, "grama_fraction", layer, figures["gradients"].get(layer, {}).get("grama_fraction", [])
    for layer, drifts in figures.get("norms", {}).items():
        yield "norms", "drift", layer, drifts
    for part, names in OF_PARTS.items():
        for name in names if part != "norms" else ():
            yield part, name, "", figures.get(part, {}).get(name, [])


def ranges(observations: str, network: str) -> dict[str, Any]:
    """
    Of each figure the range of its values over the seeds. Where a kind of layer has several layers, or there are
    several envs, it is from the lowest of their ranges to the highest.
    """
    pools: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    found: dict[str, Any] = {"runs": {}}
    for env, rows in healthy_runs(observations, network).items():
        found["runs"][env] = len(rows)
        for row in rows:
            for part, name, layer, values in values_of(row):
                pools.setdefault((part, name), {}).setdefault((env, layer), []).extend(values)
        for layer, facts in rows[0]["figures"]["layers"].items():
            found.setdefault(layer_kind(layer), {})["fault"] = facts["fault"]
        found.setdefault("features", {})["width"] = rows[0]["figures"]["features"]["width"]
    for (part, name), pool in pools.items():
        ends = [np.percentile(values, PERCENTILES) for values in pool.values() if values]
        if ends:
            low, high = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
            found.setdefault(part, {})[name] = [float(f"{end:.5g}") for end in (low, high)]
    return found if found["runs"] else {}


def data() -> dict[str, Any]:
    """What the package's file says."""
    by_observations = {
        observations: {network: found for network in NETWORKS if (found := ranges(observations, network))}
        for observations in ENVS_OF
    }
    return {"percentiles": list(PERCENTILES), "of": "the second half of each run", "ranges": by_observations}


def as_json() -> str:
    """The text of the package's file, a range on a line."""
    text = json.dumps(data(), indent=1)
    return re.sub(r"\[\s+(\S+),\s+(\S+)\s+\]", r"[\1, \2]", text) + "\n"


def shown(found: Range | None) -> str:
    """In a table's cell."""
    if found is None:
        return "-"
    low, high = (f"{end:.2g}" if abs(end) < 10 else f"{end:.0f}" for end in found)
    return low if low == high else f"{low} to {high}"


def ranges_table(observations: str) -> str:
    """A row for each figure, a column for each network."""
    of = {network: ranges(observations, network) for network in NETWORKS}
    lines = [["healthy runs", *(_runs(found) for found in of.values())]]
    for kind, words in KINDS.items():
        for name, told in OF_LAYERS.items():
            lines.append([f"{words}: {told}", *(shown(found.get(kind, {}).get(name)) for found in of.values())])
    for part, names in OF_PARTS.items():
        for name in names:
            tag = "norms/<layer>" if part == "norms" else f"{part}/{name}"
            of_sb3 = "" if part == "train" else "health/"
            tag = f"`{of_sb3}{tag}`" if (part, name) != ("weights", "norm_growth") else GROWTH
            cells = [shown(found.get(part, {}).get(name)) for found in of.values()]
            lines.append([tag, *cells])
    lines = [line for line in lines if set(line[1:]) != {"-"}]
    return markdown(["", *NETWORKS.values()], lines)


def _runs(found: Row) -> str:
    return ", ".join(f"{count} of {env}" for env, count in found.get("runs", {}).items()) or "-"


def runs_table() -> str:
    """A row for each env and network: what its runs came to."""
    of_cells: dict[tuple[str, str], list[Row]] = {}
    for row in finished(NAME):
        of_cells.setdefault((row["cell"]["env"], row["cell"]["network"]), []).append(row)
    lines = [
        [
            env,
            network,
            len(rows),
            sum(row["healthy"] for row in rows),
            _numbers([row["return"] for row in rows]),
            f"{rows[0]['floor']:g}",
            ", ".join(sorted({alarm for row in rows for alarm in row["alarms"]})) or "none",
            _numbers([row["minutes"] for row in rows]),
        ]
        for (env, network), rows in sorted(of_cells.items())
    ]
    return markdown(["env", "network", "runs", "healthy", "return", "floor", "alarms raised", "minutes"], lines)


def _numbers(values: Sequence[float]) -> str:
    return shown([min(values), max(values)])
