"""
What GroupNorm costs at the shapes of our convolutions, forward and backward, by memory format and precision, beside
other ways to the same numbers.

    python benchmarks/group_norm.py --rounds 3     # about a minute

In bf16 the images come in bfloat16, as from a convolution under autocast; weights are in fp32. Each finished cell is a
line in results/group_norm.jsonl, with the largest error against float64 in units of the output's spread, and whether
the output lies as the images do. Nothing is compiled.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import Any

import torch as th
from torch import nn

from command import benchmark_parser, markdown, parsed, with_range
from record import finished, run_missing

NAME = "group_norm"
LAYERS = {"conv1": (32, 20, 20), "conv2": (64, 9, 9), "conv3": (64, 7, 7)}
"""Channels, height and width behind each convolution, for images of 84x84."""
PRECISIONS = {"fp32": th.float32, "bf16": th.bfloat16}
LAYOUTS = {"contiguous": th.contiguous_format, "channels_last": th.channels_last}
ROWS, EPS, SECONDS = 256, 1e-5, 0.5

Norm = Callable[[th.Tensor, th.Tensor, th.Tensor], th.Tensor]


def group_norm(images: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    """As ``nn.GroupNorm(1, channels)``, which ``norm: layer`` is behind convolutions."""
    return nn.functional.group_norm(images, 1, weight, bias, EPS)


def layer_norm(images: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    """LayerNorm over an image as it lies in memory, with weights that are spread over it."""
    if not images.is_contiguous():
        by_pixel = images.permute(0, 2, 3, 1)
        shape = by_pixel.shape[1:]
        scale, shift = (each.expand(shape) for each in (weight, bias))
        return nn.functional.layer_norm(by_pixel, shape, scale, shift, EPS).permute(0, 3, 1, 2)
    shape = images.shape[1:]
    scale, shift = (each.view(-1, 1, 1).expand(shape) for each in (weight, bias))
    return nn.functional.layer_norm(images, shape, scale, shift, EPS)


def var_mean(images: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    """Mean and variance in fp32, then one product and one sum for each number."""
    var, mean = th.var_mean(images.float(), (1, 2, 3), correction=0, keepdim=True)
    scale = th.rsqrt(var + EPS) * weight.view(1, -1, 1, 1)
    return (images * scale + (bias.view(1, -1, 1, 1) - mean * scale)).to(images.dtype)


FORMS: dict[str, Norm] = {"GroupNorm": group_norm, "layer_norm": layer_norm, "var_mean": var_mean}


def run(form: str, layout: str, precision: str, layer: str, seed: int, rows: int = ROWS) -> dict[str, Any]:
    """Median milliseconds of a forward and backward pass."""
    th.manual_seed(seed)
    channels, height, width = LAYERS[layer]
    images = (2 * th.randn(rows, channels, height, width) + 1).to(PRECISIONS[precision])
    images = images.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    weight, bias = ((th.rand(channels) + number).requires_grad_() for number in (0.5, -0.5))
    gradient = th.randn_like(images)
    norm = FORMS[form]
    passes: list[float] = []
    autocast: Any = th.autocast("cpu", th.bfloat16) if precision == "bf16" else nullcontext()
    began = time.perf_counter()
    while len(passes) < 5 or time.perf_counter() - began < (SECONDS if rows == ROWS else 0.0):
        start = time.perf_counter()
        with autocast:
            found = norm(images, weight, bias)
        th.autograd.backward(found, gradient.to(found.dtype))
        passes.append(1000 * (time.perf_counter() - start))
        images.grad = weight.grad = bias.grad = None
    exact = nn.functional.group_norm(images.detach().double(), 1, weight.detach().double(), bias.detach().double(), EPS)
    return {
        "ms": round(median(passes[2:]), 4),
        "passes": len(passes),
        "error": float((found.detach().double() - exact).abs().max() / exact.std()),
        "keeps_layout": found.is_contiguous(memory_format=LAYOUTS[layout]),
        "dtype": str(found.dtype).removeprefix("torch."),
        "threads": th.get_num_threads(),
    }


def table() -> str:
    """Milliseconds for the three layers together: medians over rounds, and their range."""
    lines = []
    for form in FORMS:
        for layout in LAYOUTS:
            cells = []
            for precision in PRECISIONS:
                wanted = {"form": form, "layout": layout, "precision": precision}
                rows = [row for row in finished(NAME) if {**row["cell"], **wanted} == row["cell"]]
                by_seed: dict[int, float] = {}
                for row in rows:
                    by_seed[row["cell"]["seed"]] = by_seed.get(row["cell"]["seed"], 0.0) + row["ms"]
                sums = list(by_seed.values())
                cells += [with_range(sums, median(sums), ".2f") if sums else "-"]
                cells += [f"{max(row['error'] for row in rows):.0e}" if rows else "-"]
            if any(cell != "-" for cell in cells):
                lines.append([form, layout, *cells])
    return markdown(["", "images", "fp32, ms", "error", "bf16, ms", "error"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def main() -> None:
    args = parsed(options())
    cells = [
        {"form": form, "layout": layout, "precision": precision, "layer": layer, "seed": seed}
        for seed in range(args.rounds)
        for layer in LAYERS
        for precision in PRECISIONS
        for layout in LAYOUTS
        for form in (FORMS if seed % 2 == 0 else reversed(FORMS))
    ]
    if args.smoke:
        cells = [{**cells[0], "rows": 4}]
    run_missing(NAME, cells if not args.table else (), lambda cell: run(**cell))
    print(table())


if __name__ == "__main__":
    main()
