"""Every algorithm's zips are loaded, and the algorithm is found out."""

import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import DQN, PPO, HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv

from helpers.doctor import CONTINUOUS
from helpers.envs import make_pong
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StablePongPolicy
from sb3_stable_ppo.doctor.saved_models import known_algorithms, load_model
from sb3_stable_ppo.doctor.untrusted_zip import model_file, read_weights
from sb3_stable_ppo.runs.folder import RunWriter

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.parametrize("name", known_algorithms())
def test_the_algorithm_of_a_zip_is_found_out(name: str, tmp_path: Path) -> None:
    policy = "MlpLstmPolicy" if "Recurrent" in name else "MlpPolicy"
    model = known_algorithms()[name](policy, "Pendulum-v1" if name in CONTINUOUS else "CartPole-v1", seed=0)
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    assert type(loaded).__name__ == ("TD3" if name == "DDPG" else name)
    assert load_model(tmp_path / "model.zip", name).policy.state_dict().keys() == model.policy.state_dict().keys()


def test_a_model_of_stock_ppo_with_our_policy_is_ppos(tmp_path: Path) -> None:
    PPO(StablePongPolicy, make_pong(1)).save(tmp_path / "model.zip")
    assert type(load_model(tmp_path / "model.zip")) is PPO


ZOO_NAMES = {"a2c": "A2C", "ddpg": "DDPG", "td3": "TD3", "ppo": "PPO", "ppo_lstm": "RecurrentPPO", "trpo": "TRPO"}
ZOO_NAMES |= {
    "stable_ppo": "StablePPO",
    "stable_ppo_mask": "StableMaskablePPO",
    "stable_ppo_lstm": "StableRecurrentPPO",
}


def test_the_suffix_may_be_left_out_as_in_sb3(cartpole_zip: Path) -> None:
    bare = cartpole_zip.with_suffix("")
    assert model_file(bare) == model_file(cartpole_zip) == cartpole_zip
    assert read_weights(bare)[0].keys() == read_weights(cartpole_zip)[0].keys()


def test_our_algorithms_are_known_before_anything_has_imported_them() -> None:
    code = "from sb3_stable_ppo.doctor.saved_models import known_algorithms; print(*known_algorithms())"
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"PPO", "MaskablePPO", "StablePPO", "StableMaskablePPO", "StableRecurrentPPO"} < set(known)


@pytest.mark.parametrize("algo", ZOO_NAMES)
def test_the_run_that_a_zip_lies_in_names_its_algorithm(algo: str, tmp_path: Path) -> None:
    name = ZOO_NAMES[algo]
    policy = "MlpLstmPolicy" if "Recurrent" in name else "MlpPolicy"
    env = "Pendulum-v1" if name in CONTINUOUS else "CartPole-v1"
    known_algorithms()[name](policy, env, seed=0).save(tmp_path / "model.zip")
    RunWriter(tmp_path).describe(algo=algo)
    assert type(load_model(tmp_path / "model.zip")) is known_algorithms()[name]


def test_a_run_of_another_algorithm_or_a_broken_run_json_does_not_mislead(cartpole_zip: Path) -> None:
    for content in ('{"algo": "dqn"}', '{"algo": "ppo_lstm"}', '{"algo": ["ppo"]}', '{"algo": "mine"}', "{ broken"):
        (cartpole_zip.parent / "run.json").write_text(content)
        assert type(load_model(cartpole_zip)) is PPO, content


def test_a_model_with_a_hindsight_buffer_is_loaded_without_an_env(tmp_path: Path) -> None:
    env = BitFlippingEnv(n_bits=4, continuous=False)
    model = DQN("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=20).learn(40)
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    assert_same_weights(loaded, model)
