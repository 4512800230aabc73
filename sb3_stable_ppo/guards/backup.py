"""
A copy of what an update changes, by which it is undone.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.tensors import copied
from sb3_stable_ppo.guards.module_state import put_back, state_of


class Backup:
    """
    The policy with its buffers (BatchNorm's too), its optimizer, and what interventions remember, kept in memory.

    :param policy: the policy that is about to be updated
    :param remembered: tensors and numbers by name, at any depth; the same dict for good
    """

    def __init__(self, policy: BasePolicy, remembered: dict[str, Any]) -> None:
        self.policy, self.remembered = policy, remembered
        self.state: dict[str, Any] = {}
        self.optimizer: dict[str, Any] = {}
        self.memory: dict[str, Any] = {}
        self.take()

    def take(self) -> None:
        """Copy everything as it is now, into the last copy's memory: asking for new takes longer than copying."""
        self.state = copied(state_of(self.policy), self.state)
        self.optimizer = copied(self.policy.optimizer.state_dict(), self.optimizer)
        self.memory = copied(self.remembered, self.memory)

    def restore(self) -> None:
        """Put everything back in place; can be done more than once."""
        put_back(self.policy, self.state)
        # load_state_dict keeps the tensors it is given, and the next attempt would write into the backup
        self.policy.optimizer.load_state_dict(copied(self.optimizer))
        self.remembered.clear()
        self.remembered.update(copied(self.memory))
