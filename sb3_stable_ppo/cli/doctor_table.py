"""
The figures of a diagnosis for the terminal: each layer's, beside those of healthy runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sb3_stable_ppo.health.figures import COUNTED_ROWS, Figures
from sb3_stable_ppo.health.healthy_ranges import STOCK, healthy_ranges

WIDTH = 98
"""Columns of the whole, at most."""


def show_figures(console: Console, figures: Figures) -> None:
    """
    Print the table of layers, whose ranges it shows, and a line of the features and one of the policy.

    :param console: where
    :param figures: a diagnosis's
    """
    ranges = figures.get("healthy_ranges") or {}
    layers = figures.get("layers") or {}
    if layers:
        console.print(_table(layers, ranges), width=min(console.width, WIDTH))
        for line in _foot(ranges):
            console.print(line, style="dim", highlight=False)
    features, acting = (figures.get(part) or {} for part in ("features", "policy"))
    if features:
        rank = f"effective rank {features['effective_rank']:.1f}{_beside(ranges, 'features', 'effective_rank', '.1f')}"
        told = f"features of {features['layer']}: srank {features['srank']} of {features['width']}, {rank}"
        console.print(told, highlight=False)
    if acting:
        told = ", ".join(
            f"{name.replace('_', ' ')} {value:.3g}{_beside(ranges, 'policy', name, '.3g')}"
            for name, value in acting.items()
        )
        console.print(f"policy: {told}", highlight=False)


def _table(layers: Figures, ranges: Figures) -> Table:
    columns: tuple[str, ...] = ("healthy", "stock") if ranges else ()
    if ranges.get("network") == STOCK:  # both would be the same
        columns = ("healthy",)
    table = Table("layer", "figure", "value", *columns)
    for name, layer in layers.items():
        of_layer = ranges.get("layers", {}).get(name, {})
        rows = list(_rows(layer))
        for index, (figure, words, value) in enumerate(rows):
            found = of_layer.get(figure, {})
            outside = f" [yellow]({found['outside']})[/]" if found.get("outside") else ""
            cells = [_range(found.get(column), figure) for column in columns]
            is_last = index == len(rows) - 1
            table.add_row(escape(name) if index == 0 else "", words, value + outside, *cells, end_section=is_last)
    return table


def _rows(layer: Figures) -> Iterator[tuple[str, str, str]]:
    """Of each figure of a layer its name, its word, and the value in words."""
    if layer["fault"] == "saturated":
        yield "live", "live", f"{layer['live']} of {layer['units']}"
        yield "fault_fraction", "saturated", f"{layer['fault_fraction']:.0%}"
    else:  # a unit that is not live has the fault
        yield "live", f"live, else {layer['fault']}", f"{layer['live']} of {layer['units']}"
    yield "dormant_fraction", "dormant", f"{layer['dormant_fraction']:.0%}"
    yield "srank", "srank", str(layer["srank"])


def _range(found: Sequence[float] | None, figure: str) -> str:
    if found is None:
        return "-"
    low, high = (f"{end:.0%}" if figure.endswith("_fraction") else str(end) for end in found)
    return low if low == high else f"{low} to {high}"


def _beside(ranges: Figures, part: str, name: str, form: str) -> str:
    """The healthy range of a figure, in brackets behind it."""
    found = ranges.get(part, {}).get(name, {})
    if not found.get("healthy"):
        return ""
    low, high = (f"{end:{form}}" for end in found["healthy"])
    return f" ({found['outside'] + ', ' if found['outside'] else ''}healthy {low} to {high})"


def _foot(ranges: Figures) -> Iterator[str]:
    """What was looked at, and whose runs the ranges are from."""
    yield (
        f"Units are counted on {COUNTED_ROWS} observations, as train does; ranks on all. They are other observations "
        "than the run's, so the figures differ from train's."
    )
    if not ranges:
        return
    network = "SB3's own network" if ranges["network"] == STOCK else f"norm: {ranges['network']}"
    of_own, of_stock = (_runs(ranges["runs"][column]) for column in ("healthy", "stock"))
    yield f"healthy: {of_own}, {network}." if of_own else "healthy: no run of such a network is on record."
    without = [name for name, of_layer in ranges["layers"].items() if not _has_range(of_layer)]
    if of_own and without:
        yield f"No healthy range (-) for {', '.join(without)}: no layer of that kind, norm and activation is on record."
    if ranges["network"] != STOCK:
        yield f"stock: {of_stock}, SB3's own network." if of_stock else "stock: no run is on record."
    low, high = healthy_ranges()["percentiles"]
    yield f"A range holds {low}% to {high}% of what HealthCallback measured in {healthy_ranges()['of']}."
    yield "A figure outside its range is no fault by itself: the verdict has thresholds of its own."


def _has_range(of_layer: Figures) -> bool:
    return any(found.get("healthy") for found in of_layer.values())


def _runs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} run{'s' * (count > 1)} of {env}" for env, count in counts.items())
