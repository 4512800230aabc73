"""What the tests of the doctor look at: observations, layers that say one thing, and the names of findings."""

from typing import Any

import numpy as np

ROWS = 96


def observations_of(model: Any, rows: int = ROWS) -> Any:
    """What the model sees while random actions are taken."""
    env, found = model.get_env(), []
    env.seed(0)
    env.action_space.seed(0)
    found.append(env.reset())
    while sum(map(len, found)) < rows:
        found.append(env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)]))[0])
    return np.concatenate(found)


def fill(layer: Any, value: float) -> None:
    """The layer puts out one value whatever it sees."""
    layer.weight.data.zero_()
    layer.bias.data.fill_(value)


def names(diagnosis: Any) -> list[str]:
    return [finding.name for finding in diagnosis.findings]
