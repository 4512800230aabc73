"""
Writing a page to its file, and what that needs to be installed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import write_atomically
from sb3_stable_ppo.runs.data import RunData

NEEDED = ("plotly", "jinja2", "PIL", "matplotlib", "imageio", "yaml")


def missing() -> list[str]:
    """What the report needs and is not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def write_report(runs: list[RunData], output: Path, refresh: int | None = None) -> None:
    """
    :param runs: to show
    :param output: the page; what is there is replaced
    :param refresh: see :func:`sb3_stable_ppo.report.page.render`
    :raises UsageError: if it cannot be written
    """
    from sb3_stable_ppo.report.page import render

    try:
        write_atomically(output, render(runs, refresh).encode())
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror or error}.") from error
