"""
A mistake of the user's, which the command line tells in one sentence, without a traceback.
"""

from sb3_stable_ppo.common.lazy import public


class UsageError(Exception):
    """Fact, cause and cure, in one sentence."""


@public
class CollapseError(ValueError):
    """Training cannot go on usefully. A ValueError, so that rl_zoo3's tuning prunes the trial."""
