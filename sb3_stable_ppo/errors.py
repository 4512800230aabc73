"""
A mistake of the user's, which the command line tells in one sentence, without a traceback.
"""


class UsageError(Exception):
    """Fact, cause and cure, in one sentence."""
