"""
Files that are written whole or not at all, arrays in one file, and values that JSON can hold.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
UNREADABLE = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a file may raise that is damaged, or of which half is missing: a zip's flags may call for a password,
RuntimeError, or its bytes for a kind of compression that Python does not know."""


def write_atomically(path: Path, content: bytes) -> None:
    """
    Write ``content`` to ``path``, or leave what is there.

    :param path: the file; its folder exists
    :param content: the whole content
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def json_ready(value: Any) -> Any:
    """
    The same values as JSON can hold them: NaN and infinity become None (``null``), numpy's numbers Python's, tuples
    lists, and keys strings.

    >>> json_ready({"kl": float("nan"), 1: (2.0, 3)})
    {'kl': None, '1': [2.0, 3]}

    :param value: nested mappings, lists, tuples and plain values
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(child) for child in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def packed(arrays: Mapping[str, Array]) -> bytes:
    """
    An npz file. (numpy's own ``savez`` takes the names as keywords, so that no array can be called ``file``.)

    :param arrays: by any name
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
