"""
Weights and plain facts, read from a zip that nobody vouches for: nothing in it is executed.

SB3's zips hold pickles. Here the weights are read by torch's ``weights_only`` loader, which refuses all but tensors,
and of the rest plain JSON alone; what is too large for a model, or grows too much when unpacked, is not unpacked.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch as th

from sb3_stable_ppo.common.errors import UsageError, described

MAX_BYTES = 2 * 1024**3
"""Of a file in the zip, unpacked; SB3's largest policies have some tens of megabytes."""
MAX_GROWTH = 200
"""SB3 does not compress; a file that grows this much when unpacked is no model."""
PLAIN = (th.float32, th.float64, th.float16, th.bfloat16, th.int64, th.int32, th.uint8, th.int8, th.bool)


def model_file(path: str | Path) -> Path:
    """
    :param path: of a zip; as in SB3's ``load``, the suffix may be left out
    :return: it
    :raises UsageError: if there is no such file; of a folder, the zips in it are named
    """
    path = Path(path)
    with_suffix = path.with_name(f"{path.name}.zip")
    if path.name and not path.is_file() and with_suffix.is_file():
        return with_suffix
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
    :return: tensors by name, and what ``data`` holds in plain JSON; with ``normalize_images`` and the name of the
        ``features_extractor_class``, where ``policy_kwargs`` has them
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
    return {str(name): tensor for name, tensor in tensors.items()}, _plain_facts(known)


def _plain_facts(data: dict[str, Any]) -> dict[str, Any]:
    """What is a number, a text or nothing; and of ``policy_kwargs``, which SB3 writes as text too, two entries."""
    plain = {key: value for key, value in data.items() if isinstance(value, (int, float, str, bool, type(None)))}
    options = data.get("policy_kwargs")
    for key in ("normalize_images", "features_extractor_class"):
        if isinstance(options, dict) and isinstance(options.get(key), (bool, str)):
            plain[key] = options[key]
    return plain


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
