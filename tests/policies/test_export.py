"""Policies are exported by ``torch.jit.trace`` and ``torch.export`` as SB3's page "Exporting models" shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch as th
from torch import nn

from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import StablePPO

pytestmark = pytest.mark.slow(seconds=1)

CASES = {
    "plain": ("StableMlpPolicy", {}),
    "lean": ("StableMlpPolicy", {"lean": "auto"}),
    "bf16": ("StableMlpPolicy", {"precision": "auto"}),
    "compiled": ("StableMlpPolicy", {"compile": "auto"}),
    "normalised": ("StableMlpPolicy", {"norm_input": "running", "norm_value": "running"}),
    "batch": ("StableMlpPolicy", {"norm": "batch"}),
    "pong": (
        "StablePongPolicy",
        {
            "norm": "layer",
            "norm_input": "running",
            "memory_format": "channels_last",
            "precision": "auto",
            "compile": "auto",
        },
    ),
}


class ForExport(nn.Module):
    """What the page defines: a module that gives actions, values and log-probabilities."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: th.Tensor) -> Any:
        return self.policy(observation, deterministic=True)


@pytest.fixture
def without_validation() -> Iterator[None]:
    """torch.export cannot follow the checks of a distribution, SB3's own policies' neither."""
    th.distributions.Distribution.set_default_validate_args(False)
    yield
    th.distributions.Distribution.set_default_validate_args(True)


@pytest.mark.usefixtures("without_validation")
@pytest.mark.parametrize("how", ["trace", "export"])
@pytest.mark.parametrize("case", CASES)
def test_an_exported_policy_acts_as_the_layers_do_in_fp32(case: str, how: str, tmp_path: Path) -> None:
    policy, options = CASES[case]
    env = make_pong() if policy == "StablePongPolicy" else make_cartpole(2)
    StablePPO(policy, env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=options, seed=0).learn(32).save(
        tmp_path / "model"
    )
    model = StablePPO.load(tmp_path / "model", device="cpu")
    model.policy.set_training_mode(False)
    observation = model.policy.obs_to_tensor(env.reset())[0][:1]
    module = ForExport(model.policy)
    exported = (
        th.jit.trace(module, observation) if how == "trace" else th.export.export(module, (observation,)).module()
    )
    exported_outputs = exported(observation)

    plain = {**options, "lean": False, "precision": "fp32", "compile": False, "memory_format": "contiguous"}
    stock = StablePPO(policy, env, policy_kwargs=plain)
    stock.policy.load_state_dict(model.policy.state_dict())
    stock.policy.set_training_mode(False)
    for found, expected in zip(exported_outputs, stock.policy(observation, deterministic=True), strict=True):
        th.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
