"""
What a model's weights tell by themselves, read from a zip that nobody vouches for: nothing in it is executed.

SB3's zips hold pickles. Here the weights are read by torch's ``weights_only`` loader, which refuses all but tensors,
and of the rest plain JSON alone; what is too large for a model, or grows too much when unpacked, is not unpacked.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch as th

from sb3_stable_ppo.common.errors import UsageError, described
from sb3_stable_ppo.common.tensors import first_nonfinite
from sb3_stable_ppo.doctor.findings import Diagnosis, Finding, conclude

MAX_BYTES = 2 * 1024**3
"""Of a file in the zip, unpacked; SB3's largest policies have some tens of megabytes."""
MAX_GROWTH = 200
"""SB3 does not compress; a file that grows this much when unpacked is no model."""
PLAIN = (th.float32, th.float64, th.float16, th.bfloat16, th.int64, th.int32, th.uint8, th.int8, th.bool)
STATISTICS = ("running_mean", "running_var", "ra_mean", "ra_var")
"""Of norms; the latter of sb3-contrib's BatchRenorm."""
HUGE = 1e3
"""A weight this large, where an init gives 1 at most."""
SILENT = 0.9
NATURE_CONVS = tuple(f"features_extractor.cnn.{index}" for index in (0, 2, 4))
"""The convolutions of SB3's NatureCNN."""


def model_file(path: str | Path) -> Path:
    """
    :param path: of a zip
    :return: it
    :raises UsageError: if there is no such file; of a folder, the zips in it are named
    """
    path = Path(path)
    if path.is_dir():
        zips = ", ".join(sorted(str(found.relative_to(path)) for found in path.rglob("*.zip"))[:5]) or "no zip"
        raise UsageError(f"{path} is a folder, with {zips} in it; name the zip of a model.")
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    return path


def read_weights(path: str | Path) -> tuple[dict[str, th.Tensor], dict[str, Any]]:
    """
    The policy's tensors and the plain facts of an SB3 zip.

    :param path: the zip
    :return: tensors by name, and what ``data`` holds in plain JSON
    :raises UsageError: if there is no such file, or it is no SB3 model, or not one of tensors and plain JSON
    """
    path = model_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            weights, facts = _unpacked(archive, "policy.pth", path), _unpacked(archive, "data", path)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{path}: no whole zip of an SB3 model ({type(error).__name__}: {error}).") from error
    try:
        with zipfile.ZipFile(io.BytesIO(weights)) as inner:
            for info in inner.infolist():
                _check_size(info, path)
        tensors = th.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # torch's loader has many ways to say no
        reason = described(error, 160)
        raise UsageError(f"{path}: its weights are not tensors alone: {reason}") from error
    if not isinstance(tensors, Mapping) or not tensors or not all(map(_is_plain, tensors, tensors.values())):
        raise UsageError(f"{path}: its weights are not plain tensors by name.")
    try:
        known = json.loads(facts)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: its data is no JSON ({error}).") from error
    if not isinstance(known, dict):
        raise UsageError(f"{path}: its data is no JSON object.")
    plain = {key: value for key, value in known.items() if isinstance(value, (int, float, str, bool, type(None)))}
    return {str(name): tensor for name, tensor in tensors.items()}, plain


def _is_plain(name: Any, tensor: Any) -> bool:
    """Dense numbers that are all there, under a name that can be printed: a view may claim more than is stored."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and isinstance(tensor, th.Tensor)
        and tensor.layout is th.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in PLAIN
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _unpacked(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    _check_size(archive.getinfo(name), path)
    return archive.read(name)


def _check_size(info: zipfile.ZipInfo, path: Path) -> None:
    if info.file_size > MAX_BYTES or info.file_size > MAX_GROWTH * max(info.compress_size, 1):
        raise UsageError(
            f"{path}: {info.filename} would take {info.file_size:,} bytes from {info.compress_size:,}: not unpacked."
        )


def diagnose_weights(tensors: Mapping[str, th.Tensor], facts: Mapping[str, Any]) -> Diagnosis:
    """
    A verdict on what weights alone can tell; "healthy" means that nothing is wrong with *them*.

    :param tensors: a policy's, by name
    :param facts: beside them
    """
    findings: list[Finding] = []
    if broken := first_nonfinite(tensors):
        evidence = f"Not finite: {broken}."
        remedy = "These weights cannot be saved: go on from an earlier checkpoint, with StablePPO."
        findings.append(Finding("nonfinite", "critical", "numerically broken", None, None, evidence, remedy))
    findings += [*_dead_by_sign(tensors), *_huge_weights(tensors), *_statistics(tensors)]
    return conclude(findings, {"facts": dict(facts), "tensors": len(tensors)})


def _dead_by_sign(tensors: Mapping[str, th.Tensor]) -> Iterator[Finding]:
    """Of stock NatureCNN: behind images and ReLU all is positive, so a unit of no positive weight or bias is dead."""
    for name, weight in tensors.items():
        place = name.removesuffix(".weight")
        bias = tensors.get(f"{place}.bias")
        is_nature = any(
            f"features_extractor.cnn.{number}" == place[-len("features_extractor.cnn.0") :] for number in (0, 2, 4)
        )
        if is_nature and weight.dim() == 4 and bias is not None and bias.shape == weight.shape[:1] and weight.numel():
            dead = float(((weight.flatten(1) <= 0).all(dim=1) & (bias <= 0)).float().mean())
            if not dead < SILENT:
                evidence = f"{dead:.0%} of the units of {place} have no positive weight or bias, and no negative input."
                remedy = "Their ReLU passes no gradient, so they stay dead: go on from an earlier checkpoint."
                yield Finding("dead_by_sign", "critical", "collapsed activations", dead, SILENT, evidence, remedy)


def _huge_weights(tensors: Mapping[str, th.Tensor]) -> Iterator[Finding]:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not name.endswith(STATISTICS):
            largest = float(tensor.abs().max())
            if largest > HUGE:
                evidence = f"{name} has a value of {largest:.3g}, where inits give 1 at most."
                remedy = "Lower the learning rate, clip gradients (max_grad_norm), and look for huge rewards."
                yield Finding("huge_weights", "critical", "dying", largest, HUGE, evidence, remedy)
                return


def _statistics(tensors: Mapping[str, th.Tensor]) -> Iterator[Finding]:
    for name, variance in tensors.items():
        if name.endswith("running_var") and variance.is_floating_point():
            batches = tensors.get(name.replace("running_var", "num_batches_tracked"))
            remedy = (
                "Collect a rollout before the model is used, or train it with StablePPO and our policies, which do."
            )
            if batches is not None and not bool(batches.any()):
                evidence = f"{name}: this BatchNorm has never seen a batch; it does not normalise anything yet."
                yield Finding("norm_without_statistics", "warning", "", 0, None, evidence, remedy)
                return
            silent = float((variance < 1e-10).float().mean())
            if silent > SILENT:
                evidence = f"{silent:.0%} of the channels that {name.rpartition('.')[0]} normalises do not vary at all."
                yield Finding(
                    "norm_of_constants", "critical", "collapsed activations", silent, SILENT, evidence, remedy
                )
                return
