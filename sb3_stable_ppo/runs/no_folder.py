"""
What stands in for a run folder's writer and reader where a run has no folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sb3_stable_ppo.common.files import Array


class NoReader:
    """Reads as :class:`~sb3_stable_ppo.runs.folder.RunReader` does from an empty folder."""

    def health(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def snapshot_steps(self) -> list[int]:
        return []

    def snapshot(self, step: int) -> dict[str, Array]:  # noqa: ARG002
        return {}

    def observation(self) -> dict[str, Array] | None:
        return None


class NoWriter:
    """Has the methods of :class:`~sb3_stable_ppo.runs.folder.RunWriter` that callbacks call, and does nothing."""

    folder = None
    reader = NoReader()

    def set_aside(self, name: str) -> None:
        pass

    def go_back_to(self, step: int) -> None:
        pass

    def health(self, step: int, figures: Mapping[str, Any]) -> None:
        pass

    def observation(self, observation: Mapping[str, Array]) -> None:
        pass

    def snapshot(self, step: int, activations: Mapping[str, Array]) -> list[int]:  # noqa: ARG002
        return []
