"""How often the guards look at a number: on a GPU each look waits for all that was asked of it before."""

from typing import Any

import torch as th
from stable_baselines3 import PPO
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.envs import make_cartpole
from sb3_stable_ppo import StablePPO


class Reads(TorchDispatchMode):
    """Counts ``item()``, ``float()``, ``bool()`` and ``int()`` of tensors."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is th.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def reads_of_an_update(algorithm: Any, n_epochs: int, **options: Any) -> int:
    env = make_cartpole()
    model = algorithm("MlpPolicy", env, n_steps=32, batch_size=16, n_epochs=n_epochs, seed=0, **options)
    model.learn(64)
    with Reads() as reads:
        model.train()
    return reads.count


def test_the_guards_look_at_one_number_more_in_a_minibatch_than_ppo() -> None:
    of_a_minibatch = {}
    for algorithm in (PPO, StablePPO):
        few, many = (reads_of_an_update(algorithm, n_epochs) for n_epochs in (1, 6))
        of_a_minibatch[algorithm] = (many - few) / (5 * 4)
    assert of_a_minibatch[PPO] > 0
    assert of_a_minibatch[StablePPO] == of_a_minibatch[PPO] + 1
