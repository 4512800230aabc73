"""AtariVecEnv: what SB3's own Atari envs do. (What SB3 expects of any VecEnv: test_batch_vec_envs.py.)"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage, is_vecenv_wrapped

from sb3_stable_ppo.envs.atari import make_atari_env, make_atari_vec_env
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv
from sb3_stable_ppo.runs.logs import read_monitors

pytestmark = pytest.mark.slow(seconds=1)

PONG, BREAKOUT = "PongNoFrameskip-v4", "BreakoutNoFrameskip-v4"


def play(env: VecEnv, steps: int, seed: int = 0) -> list[tuple[Any, Any, Any, list[dict[str, Any]]]]:
    """Random actions from a reset env."""
    rng = np.random.default_rng(seed)
    env.reset()
    n_actions = env.action_space.n  # type: ignore[attr-defined]
    return [env.step(rng.integers(0, n_actions, env.num_envs)) for _ in range(steps)]  # type: ignore[misc]


def test_seeds_hold_for_one_reset_as_in_sb3() -> None:
    env = AtariVecEnv(PONG, 8, seed=1)
    starts = []
    for _ in range(2):
        env.reset()
        starts.append([info["episode_frame_number"] for info in env.reset_infos])
    assert starts[0] != starts[1]
    env.close()


@pytest.mark.slow
def test_rewards_are_signs_in_float32_and_the_raw_score_is_in_the_info() -> None:
    env = AtariVecEnv("MsPacmanNoFrameskip-v4", 2, seed=0, terminal_on_life_loss=False)
    raw = AtariVecEnv("MsPacmanNoFrameskip-v4", 2, seed=0, terminal_on_life_loss=False, clip_reward=False)
    clipped_steps, raw_steps = play(env, 1200), play(raw, 1200)
    rewards = np.array([step[1] for step in clipped_steps])
    raw_rewards = np.array([step[1] for step in raw_steps])
    assert rewards.dtype == raw_rewards.dtype == np.float32
    assert raw_rewards.max() >= 10
    assert np.array_equal(rewards, np.sign(raw_rewards))

    scores = [(t, i) for t, step in enumerate(clipped_steps) for i, info in enumerate(step[3]) if "episode" in info]
    assert scores
    begun = [0, 0]
    for t, index in scores:
        score = raw_rewards[begun[index] : t + 1, index].sum()
        assert clipped_steps[t][3][index]["episode"]["r"] == score
        begun[index] = t + 1
    env.close()
    raw.close()


def test_a_game_over_resets_in_the_same_step_and_keeps_the_last_observation() -> None:
    env = AtariVecEnv(PONG, 2, seed=0)
    steps = play(env, 1200)
    over = [(t, i) for t, step in enumerate(steps) for i in range(2) if step[2][i]]
    assert over
    for t, index in over:
        observations, _, _, infos = steps[t]
        terminal = infos[index]["terminal_observation"]
        assert terminal.shape == (4, 84, 84)
        # the frames before are in it, one place further: it is the end of the old game
        assert np.array_equal(terminal[:3], steps[t - 1][0][index][1:])
        assert not np.array_equal(observations[index][:3], steps[t - 1][0][index][1:])
        assert infos[index]["TimeLimit.truncated"] is False
        assert "episode" in infos[index]
    assert all("terminal_observation" not in info for step in steps for i, info in enumerate(step[3]) if not step[2][i])
    env.close()


def test_the_length_of_a_game_is_its_emulator_frames() -> None:
    """As SB3's Monitor has it below AtariWrapper; four frames a step, no-ops and the FIRE of the start included."""
    env = AtariVecEnv(PONG, 1, seed=0)
    steps = play(env, 2500)
    begun, previous = env_start(env), 0
    for t, step in enumerate(steps):
        info = step[3][0]
        if "episode" in info:
            frames = info["episode"]["l"] - begun
            assert 4 * (t + 1 - previous) - 3 <= frames <= 4 * (t + 1 - previous)
            begun, previous = info["episode_frame_number"], t + 1
    assert previous > 0
    env.close()


@pytest.mark.parametrize("vec_env", ["ale", "dummy"])
def test_of_an_id_that_skips_frames_by_itself_the_length_is_steps_as_in_sb3(vec_env: str, tmp_path: Path) -> None:
    env = make_atari_vec_env("ALE/Breakout-v5", 1, seed=0, vec_env=vec_env, monitor_dir=str(tmp_path))
    ends = [t for t, step in enumerate(play(env, 600), 1) if "episode" in step[3][0]]
    env.close()
    curve = read_monitors(tmp_path)["rollout/ep_len"]
    most = 30 + 5 * 3 if vec_env == "dummy" else 30  # no-ops and FIRE; SB3 has some after each life
    for end, steps, length, previous in zip(ends, curve.steps, curve.values, [0, *ends], strict=False):
        assert 1 <= length - (end - previous) <= most
        assert steps >= end
    assert len(ends) == len(curve.steps) > 1


def env_start(env: AtariVecEnv) -> int:
    """Frames that the first game's start took."""
    env.seed(0)
    env.reset()
    return int(env.reset_infos[0]["episode_frame_number"])


def test_a_lost_life_ends_an_episode_but_not_the_game() -> None:
    env = AtariVecEnv(BREAKOUT, 2, seed=0)
    steps = play(env, 600)
    lost = [(t, i) for t, s in enumerate(steps) for i in range(2) if s[2][i] and "episode" not in s[3][i]]
    over = [(t, i) for t, s in enumerate(steps) for i in range(2) if "episode" in s[3][i]]
    assert lost
    assert over
    for t, index in lost:
        assert steps[t][3][index]["lives"] == steps[t - 1][3][index]["lives"] - 1
        # ALE leaves its final observation unset here: the frames on the screen are the last of that life
        assert np.array_equal(steps[t][3][index]["terminal_observation"], steps[t][0][index])
        assert np.array_equal(steps[t][0][index][:3], steps[t - 1][0][index][1:])
    for t, index in over:
        assert steps[t][2][index]
        assert steps[t][3][index]["lives"] == 5
    env.close()


def test_without_life_loss_only_the_game_over_ends_an_episode() -> None:
    env = AtariVecEnv(BREAKOUT, 2, seed=0, terminal_on_life_loss=False)
    for _, _, dones, infos in play(env, 600):
        assert [bool(done) for done in dones] == ["episode" in info for info in infos]
    env.close()


def test_a_time_limit_is_a_truncation(monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium as gym

    monkeypatch.setitem(gym.spec(PONG).kwargs, "max_num_frames_per_episode", 200)
    env = AtariVecEnv(PONG, 1, seed=0)
    ends = [step[3][0] for step in play(env, 120) if step[2][0]]
    assert ends
    assert all(info["TimeLimit.truncated"] is True for info in ends)
    assert ends[0]["episode"]["l"] - env_start(env) == 200  # ALE does not count the frames of the start
    env.close()


def test_the_actions_meanings_and_the_pictures_of_all_games_are_there() -> None:
    env = AtariVecEnv(PONG, 3)
    assert env.get_attr("render_mode") == ["rgb_array"] * 3
    assert env.env_method("get_action_meanings", indices=0) == [
        ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
    ]
    assert len(env.get_images()) == 3
    assert env.render(mode="rgb_array").shape == (168, 168, 3)  # type: ignore[union-attr]
    env.close()


@pytest.mark.parametrize("vec_env", ["ale", "dummy"])
def test_ppo_trains_and_is_evaluated_without_a_warning_and_without_a_wrapper(vec_env: str) -> None:
    env = make_atari_vec_env(PONG, 2, seed=0, vec_env=vec_env)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO("CnnPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=2**31 + 5).learn(32)
        if vec_env == "ale":
            assert model.get_env() is env
            assert not is_vecenv_wrapped(env, VecTransposeImage)
    env.close()


@pytest.mark.slow
def test_evaluate_policy_counts_whole_games_without_a_warning() -> None:
    env = make_atari_vec_env(BREAKOUT, 2, seed=0)
    model = PPO("CnnPolicy", env, n_steps=16, batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(model, env, 4, deterministic=False, return_episode_rewards=True)
    assert len(returns) == 4  # type: ignore[arg-type]
    assert all(length > 300 for length in lengths)  # type: ignore[union-attr]  # a game of five lives, not one life
    env.close()


def test_a_model_trained_in_one_env_goes_on_in_the_other() -> None:
    ale, stock = make_atari_vec_env(PONG, 1, seed=0), make_atari_vec_env(PONG, 1, seed=0, vec_env="dummy")
    model = PPO("CnnPolicy", ale, n_steps=16, batch_size=16, n_epochs=1).learn(16)
    model.set_env(stock)
    model.learn(16)
    ale.close()
    stock.close()


@pytest.mark.parametrize(
    ("env_id", "options", "complaint"),
    [
        ("CartPole-v1", {}, "'CartPole-v1' is not the id of an Atari game"),
        ("PongNoFrameskp-v4", {}, "did you mean PongNoFrameskip-v4"),
        ("Pong-v4", {}, "skips a random number of frames"),
        ("Pong-ramNoFrameskip-v4", {}, "is not the id of an Atari game|gives the memory"),
        (PONG, {"n_envs": 0}, "n_envs must be a whole number of at least 1, not 0"),
        (PONG, {"num_threads": -1}, "num_threads must be a whole number of at least 0"),
        (PONG, {"vec_env": "envpool"}, "Unknown vec_env 'envpool': choose one of ale, dummy, subproc"),
    ],
)
def test_a_mistake_is_one_clear_error(env_id: str, options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_atari_vec_env(env_id, **options)


def test_the_old_name_of_the_function_works_and_names_the_new_one() -> None:
    with pytest.warns(FutureWarning, match="make_atari_env is an old name.*write make_atari_vec_env") as warned:
        env = make_atari_env(PONG, 2, seed=0, frame_stack=3)
    assert [warning.filename for warning in warned] == [__file__]
    assert isinstance(env, AtariVecEnv)
    assert env.observation_space.shape == (3, 84, 84)
    env.close()


def test_a_missing_rom_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ale_py.roms.get_rom_path", lambda _: None)
    with pytest.raises(ValueError, match="The ROM of PongNoFrameskip-v4 is missing"):
        AtariVecEnv(PONG)


@pytest.mark.parametrize("actions", [[6, 0], [-1, 0], [0], [[0, 0]], [0, 1, 2]])
def test_an_action_that_the_game_does_not_have_is_an_error_and_no_hang(actions: Any) -> None:
    env = AtariVecEnv(PONG, 2, seed=0)
    env.reset()
    with pytest.raises(ValueError, match="Actions must be 2 whole numbers from 0 to 5"):
        env.step(np.array(actions))
    assert env.step(np.array([5, 0]))[0].shape == (2, 4, 84, 84)
    env.close()


@pytest.mark.parametrize("vec_env", ["ale", "dummy", "subproc"])
def test_no_envs_are_an_error(vec_env: str) -> None:
    with pytest.raises(ValueError, match="n_envs must be a whole number of at least 1, not 0"):
        make_atari_vec_env(PONG, 0, vec_env=vec_env)


@pytest.mark.parametrize("env_id", [PONG, "ALE/Pong-v5"])
def test_an_action_is_repeated_four_times_whoever_skips_the_frames(env_id: str) -> None:
    counts = {}
    for vec_env in ("ale", "dummy"):
        env = make_atari_vec_env(env_id, 1, seed=0, vec_env=vec_env)
        env.reset()
        first, later = (env.step(np.array([0]))[3][0]["episode_frame_number"] for _ in range(2))
        counts[vec_env] = later - first
        env.close()
    assert counts == {"ale": 4, "dummy": 4}
