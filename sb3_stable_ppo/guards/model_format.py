"""
The version of what our algorithms put into a model's zip beside SB3's content.
"""

from __future__ import annotations

from sb3_stable_ppo.common.errors import UsageError

FORMAT = 1
"""It rises when a zip can no longer be understood by the code before."""


def check_format(version: object) -> None:
    """
    :param version: that a zip has; zips of stock SB3, and ours from before there were versions, have none
    :raises UsageError: if it is newer than this code
    """
    if isinstance(version, int) and version > FORMAT:
        raise UsageError(
            f"The model was saved in format {version}, and this version of sb3-stable-ppo knows formats up to {FORMAT}"
            ": load it with the version that saved it, or a newer one."
        )
