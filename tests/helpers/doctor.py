"""The doctor as its command runs."""

from typing import Any

from sb3_stable_ppo.cli.app import main

CONTINUOUS = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
"""Algorithms that do not play CartPole."""


def doctor(*args: Any) -> int:
    return main(["doctor", *map(str, args)])
