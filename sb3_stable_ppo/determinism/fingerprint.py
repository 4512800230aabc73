"""
What a result depends on beside seed, code and versions: the machine, threads, and torch's flags.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch as th

VARIABLES = ("PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES")
"""Of the environment; each changes numbers or their order."""


def fingerprint(device: th.device | str) -> dict[str, Any]:
    """
    Two runs of the same seed, code and versions can be expected to be the same only where these facts are.

    >>> sorted(fingerprint("cpu"))
    ['cores', 'cpu', 'device', 'environment', 'flags', 'platform', 'threads']

    :param device: of the model
    :return: values that JSON can hold
    """
    device = th.device(device)
    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "device": str(device),
        "threads": {"torch": th.get_num_threads(), "torch_interop": th.get_num_interop_threads()},
        "flags": {
            "deterministic_algorithms": th.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": th.get_float32_matmul_precision(),
            "cpu_capability": th.backends.cpu.get_cpu_capability(),
        },
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }
    if device.type == "cuda":
        found["gpu"] = th.cuda.get_device_name(device)
        found["cuda"] = {"runtime": th.version.cuda, "cudnn": th.backends.cudnn.version()}  # type: ignore[no-untyped-call]
        found["flags"] |= {
            "cudnn_deterministic": th.backends.cudnn.deterministic,
            "cudnn_benchmark": th.backends.cudnn.benchmark,
        }
    return found


def cpu_model() -> str:
    """The processor's name, or its kind where the system tells no name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
