"""On healthy data, and with ``guards=None``, each algorithm trains as its stock one does, bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from helpers.conformance import (
    ACTION_SPACES,
    ALL,
    PAIRS,
    Scene,
    assert_identical,
    build,
    is_finite,
    make,
    policy_of,
    small,
    supports,
)
from helpers.transformer import TokensExtractor
from helpers.weights import assert_same_weights
from sb3_stable_ppo import (
    HealthCallback,
    StablePPO,
    StableRecurrentPPO,
    diagnose,
)
from sb3_stable_ppo.runs.folder import RunReader


@pytest.mark.slow(seconds=1)
@ALL
@pytest.mark.parametrize("actions", ACTION_SPACES)
def test_healthy_training_is_bit_identical_over_action_spaces(algorithm: Any, actions: str) -> None:
    if supports(algorithm, actions):
        assert_identical(algorithm, policy_of(algorithm), lambda: make(actions))


@ALL
def test_healthy_training_is_bit_identical_with_a_normaliser(algorithm: Any) -> None:
    envs: list[VecNormalize] = []

    def normalised() -> VecNormalize:
        envs.append(VecNormalize(make()))
        return envs[-1]

    assert_identical(algorithm, policy_of(algorithm), normalised)
    stock, ours = envs
    assert np.array_equal(stock.obs_rms.mean, ours.obs_rms.mean)  # type: ignore[union-attr]
    assert stock.ret_rms.var == ours.ret_rms.var


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("options", [{"target_kl": 1e-4}, {"clip_range_vf": 0.1}, {"n_epochs": 5}, {"ent_coef": 0.1}])
def test_healthy_training_is_bit_identical_over_options(algorithm: Any, options: Any) -> None:
    assert_identical(algorithm, policy_of(algorithm), make, **options)


@pytest.mark.slow(seconds=1)
@ALL
def test_healthy_training_is_bit_identical_with_dict_observations(algorithm: Any) -> None:
    assert_identical(algorithm, policy_of(algorithm, "StableMultiInputPolicy"), lambda: make_vec_env(Scene, 2, seed=0))


@pytest.mark.slow(seconds=1)
@ALL
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_healthy_training_is_bit_identical_with_every_norm(algorithm: Any, norm: str) -> None:
    assert_identical(algorithm, policy_of(algorithm), make, policy_kwargs={"norm": norm}, learning_rate=1e-5)


@pytest.mark.slow(seconds=1)
@pytest.mark.parametrize("algorithm", [StablePPO, StableRecurrentPPO])
@pytest.mark.parametrize("squash", [False, True])
def test_healthy_training_is_bit_identical_with_gsde(algorithm: Any, squash: bool) -> None:
    policy_kwargs = {"squash_output": squash}
    assert_identical(algorithm, policy_of(algorithm), lambda: make("box"), use_sde=True, policy_kwargs=policy_kwargs)


TRANSFORMER: dict[str, Any] = {"features_extractor_class": TokensExtractor, "net_arch": [8], "norm": "none"}


@ALL
def test_healthy_training_is_bit_identical_with_a_transformer(algorithm: Any) -> None:
    assert_identical(algorithm, policy_of(algorithm), make, policy_kwargs=TRANSFORMER, learning_rate=1e-5)


@ALL
def test_a_transformer_is_guarded_and_read_by_health_and_diagnosis(algorithm: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = build(algorithm, policy_kwargs=TRANSFORMER).learn(64, callback=HealthCallback(folder=folder, budget=None))
    assert is_finite(model)
    lines = list(RunReader(folder).health())
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    layers = [lines[-1]["layers"], diagnose(model, rows).figures["layers"]]
    assert all(read["fc5"]["units"] == 16 and "srank" in read["fc5"] for read in layers)
    assert all(read.keys() == {"fc5", "pi.fc1", "vf.fc1"} for read in layers)


@ALL
def test_an_update_that_kills_the_units_of_a_token_wise_layer_is_undone(algorithm: Any) -> None:
    """Of 16 features 14 die, in every token: no token would show it."""
    model = build(algorithm, guards={"max_retries": 0, "max_kl": 100.0}, policy_kwargs=TRANSFORMER)
    step = model.policy.optimizer.step

    def kill(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        model.policy.features_extractor.head[0].bias.data[:14] = -1e3
        return result

    model.policy.optimizer.step = kill
    with pytest.warns(UserWarning, match="of the live units of fc5 died"):
        model.learn(32)


@ALL
def test_guards_none_is_stock_training(algorithm: Any) -> None:
    ours = build(algorithm, guards=None).learn(128)
    assert_same_weights(ours, PAIRS[algorithm](policy_of(algorithm), make(), **small(algorithm, {})).learn(128))


@ALL
def test_the_aliases_are_of_the_algorithms_own_kind(algorithm: Any) -> None:
    for name in ("StablePongPolicy", "StableCnnPolicy", "StableMlpPolicy", "StableMultiInputPolicy"):
        kind = algorithm.__name__.removeprefix("Stable").removesuffix("PPO")
        assert algorithm.policy_aliases[name].__name__ == name.replace("Stable", f"Stable{kind}")
