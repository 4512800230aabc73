"""Each algorithm saves and loads its guards, and loads zips of its stock one."""

from pathlib import Path
from typing import Any

import pytest
import torch as th

from helpers.conformance import ALL, PAIRS, SMALL, build, make, policy_of, small
from helpers.guarded import Logged
from helpers.processes import run_python
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StableRecurrentPPO

pytestmark = pytest.mark.slow(seconds=1)


@ALL
def test_the_scale_and_the_counts_survive_save_and_load(algorithm: Any, tmp_path: Path) -> None:
    model = build(algorithm, guards={"max_kl": 1e-12, "max_retries": 1})
    with pytest.warns(UserWarning, match="undone"):
        model.learn(32)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=make(), guards={"max_kl": 0.5})
    assert (loaded._lr_scale, loaded._scale_moves, loaded._undone_updates) == (0.25, True, 2)
    log = Logged()
    loaded.learn(32, callback=log, reset_num_timesteps=False)
    assert log.updates[0]["train/learning_rate"] == 1e-3 / 4
    assert loaded._lr_scale == pytest.approx(0.25 * 1.3)


@ALL
def test_the_scale_stays_one_while_nothing_was_undone(algorithm: Any) -> None:
    model = build(algorithm).learn(128)
    assert (model._lr_scale, model._scale_moves) == (1.0, False)


@ALL
def test_a_zip_of_the_stock_algorithm_loads_and_trains(algorithm: Any, tmp_path: Path) -> None:
    stock = PAIRS[algorithm](policy_of(algorithm), make(), **SMALL).learn(64)
    stock.save(tmp_path / "stock.zip")
    ours = algorithm.load(tmp_path / "stock.zip", env=make())
    assert_same_weights(ours, stock)
    ours.learn(64)
    ours.save(tmp_path / "ours.zip")
    assert_same_weights(PAIRS[algorithm].load(tmp_path / "ours.zip", env=make()), ours)


WITHOUT_US = """
import sys
sys.modules["sb3_stable_ppo"] = None  # to import it raises ModuleNotFoundError
import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
for algorithm in (PPO, MaskablePPO, RecurrentPPO):
    path = f"{sys.argv[1]}/{algorithm.__name__}"
    th.save(algorithm.load(path).policy.state_dict(), f"{path}.pt")
"""


def test_stock_loads_a_guarded_model_of_its_own_policy_where_this_package_is_not_installed(tmp_path: Path) -> None:
    models = {}
    for algorithm, stock in PAIRS.items():
        policy = "MlpLstmPolicy" if algorithm is StableRecurrentPPO else "MlpPolicy"
        models[stock] = algorithm(policy, make(), **small(algorithm, {})).learn(32)
        models[stock].save(tmp_path / stock.__name__)
    run_python(WITHOUT_US, str(tmp_path))
    for stock, model in models.items():
        loaded = th.load(tmp_path / f"{stock.__name__}.pt")
        assert all(th.equal(tensor, loaded[name]) for name, tensor in model.policy.state_dict().items())


@ALL
def test_policies_are_saved_and_loaded_by_themselves(algorithm: Any, tmp_path: Path) -> None:
    recurrent = algorithm is StableRecurrentPPO
    policy_kwargs = {"norm": "batch", **({"lstm_hidden_size": 8, "n_lstm_layers": 2} if recurrent else {})}
    model = build(algorithm, policy_kwargs=policy_kwargs).learn(64)
    model.policy.save(str(tmp_path / "policy.pt"))
    loaded = policy_of(algorithm).load(str(tmp_path / "policy.pt"))
    assert all(th.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.policy.state_dict().items())
