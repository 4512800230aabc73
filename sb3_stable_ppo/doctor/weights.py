"""
What a model's weights tell by themselves, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch as th

from sb3_stable_ppo.common.tensors import first_nonfinite
from sb3_stable_ppo.doctor.bounds import nature_cnns, upper_bounds
from sb3_stable_ppo.doctor.findings import Diagnosis, Finding, conclude, finding
from sb3_stable_ppo.doctor.remedies import BROKEN, HUGE_WEIGHTS, NO_STATISTICS, REMEDIES
from sb3_stable_ppo.health.thresholds import INACTIVE_LAYER

STATISTICS = ("running_mean", "running_var", "ra_mean", "ra_var", "return_mean", "return_var")
"""Of norms, two of sb3-contrib's BatchRenorm, and those of returns (``norm_value: running``)."""
HUGE = 1e3
"""A weight this large, where an init gives 1 at most."""


def diagnose_weights(tensors: Mapping[str, th.Tensor], facts: Mapping[str, Any]) -> Diagnosis:
    """
    Tell what is wrong with weights by themselves. Where nothing is, the verdict is "not ruled out": most faults show
    only in what a network does with observations, which :func:`~sb3_stable_ppo.doctor.diagnosis.diagnose` looks at.

    :param tensors: a policy's, by name
    :param facts: beside them; see :func:`~sb3_stable_ppo.doctor.untrusted_zip.read_weights`
    """
    broken = first_nonfinite(tensors)
    findings: list[Finding] = []
    if broken:
        findings.append(finding("nonfinite", "critical", None, None, f"Not finite: {broken}.", BROKEN))
    else:
        findings += _dead_units(tensors, facts)
    findings += [*_huge_weights(tensors), *_statistics(tensors)]
    if not any(found.severity == "critical" for found in findings):
        findings.append(
            finding(
                "weights_only",
                "note",
                None,
                None,
                "Without an env nobody can tell whether the network lives. The weights alone were looked at, and a "
                "dead network can have weights that look like any others.",
                "Name the env with --env: the model then plays, and its layers and its policy are looked at.",
            )
        )
    return conclude(findings, {"facts": dict(facts), "tensors": len(tensors)})


def _dead_units(tensors: Mapping[str, th.Tensor], facts: Mapping[str, Any]) -> Iterator[Finding]:
    """The first layer of a NatureCNN whose units are dead for every image; the layers behind it are counted."""
    for extractor in nature_cnns(tensors, facts):
        shares = {
            layer: float((upper <= 0).double().mean()) for layer, upper in upper_bounds(tensors, extractor).items()
        }
        dead = [layer for layer, share in shares.items() if share >= INACTIVE_LAYER]
        if dead:
            others = f" So are most in {', '.join(dead[1:])}." if dead[1:] else ""
            evidence = (
                f"{shares[dead[0]]:.0%} of the units of {dead[0]} are dead: behind their ReLU they are zero for every "
                f"image, by their weights and biases alone.{others}"
            )
            yield finding("dead_units", "critical", shares[dead[0]], INACTIVE_LAYER, evidence, REMEDIES["dead"])
            return


def _huge_weights(tensors: Mapping[str, th.Tensor]) -> Iterator[Finding]:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not name.endswith(STATISTICS):
            largest = float(tensor.abs().max())
            if largest > HUGE:
                evidence = f"{name} has a value of {largest:.3g}, where inits give 1 at most."
                yield finding("huge_weights", "critical", largest, HUGE, evidence, HUGE_WEIGHTS)
                return


def _statistics(tensors: Mapping[str, th.Tensor]) -> Iterator[Finding]:
    for name, variance in tensors.items():
        if name.endswith("running_var") and variance.is_floating_point():
            batches = tensors.get(name.replace("running_var", "num_batches_tracked"))
            if batches is not None and not bool(batches.any()):
                evidence = f"{name}: this BatchNorm has never seen a batch; it does not normalise anything yet."
                yield finding("norm_without_statistics", "warning", 0, None, evidence, NO_STATISTICS)
                return
            constant = float((variance < 1e-10).float().mean())
            if constant > INACTIVE_LAYER:
                norm = name.rpartition(".")[0]
                evidence = f"{constant:.0%} of the channels that {norm} normalises do not vary at all."
                yield finding("norm_of_constants", "critical", constant, INACTIVE_LAYER, evidence, NO_STATISTICS)
                return
