"""
rich's console, for what is printed in colour.
"""

from __future__ import annotations

from typing import NoReturn

import rich.console


class Console(rich.console.Console):
    """
    Where whoever reads the output has had enough, as ``head`` has, it raises the BrokenPipeError. rich's own ends the
    process with status 1, by which ``doctor`` says that a model is unhealthy.
    """

    def on_broken_pipe(self) -> NoReturn:
        """rich calls it while it handles the error."""
        raise BrokenPipeError
