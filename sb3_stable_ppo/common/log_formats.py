"""
The formats of SB3's logger, as ``record(exclude=...)`` takes them.
"""

from __future__ import annotations

TABLE = ("stdout", "log")
"""The printed table, and its text file, which all our figures would make a hundred lines long."""
