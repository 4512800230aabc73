"""The command line, a module for each subcommand: here is what parses and prints, in the rooms below what works."""

from typing import TYPE_CHECKING

from sb3_stable_ppo.common.lazy import lazy_exports

if TYPE_CHECKING:
    from sb3_stable_ppo.cli.app import main as main
else:
    __getattr__, __dir__, __all__ = lazy_exports(
        __name__,
        {
            "app": ["main"],
        },
    )
