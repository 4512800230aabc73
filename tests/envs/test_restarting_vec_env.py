"""
RestartingVecEnv: an episode whose worker dies is truncated, and a new worker goes on. (What SB3 expects of any VecEnv:
test_batch_vec_envs.py; too many deaths: test_restart_limit.py.)
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize

from helpers.dying_env import EXIT, FINISH, GO_ON, HANG, LEAVE, LOSE, RAISE, DyingEnv, fragile, monitored
from helpers.restarting import kill, restarting_envs as restarting_envs
from helpers.weights import assert_same_weights
from sb3_stable_ppo.checkpoints.env_state import env_state
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv

pytestmark = [pytest.mark.filterwarnings("ignore:The worker of env:RuntimeWarning"), pytest.mark.slow(seconds=1)]


def stack(found: Any) -> np.ndarray:
    return np.asarray(found)


@pytest.mark.parametrize(
    ("action", "cause"),
    [
        (EXIT, "exit status 3"),
        (RAISE, "KeyError: 'lost the ball'"),
        (HANG, "no answer within 0.2 s"),
        (LOSE, "EOFError: lost the game server"),
        (LEAVE, "SystemExit: 4"),
    ],
)
def test_an_env_that_dies_in_a_step_has_its_episode_truncated_and_begins_anew(
    make: Any, action: int, cause: str
) -> None:
    env = make(timeout=0.2)
    env.reset()
    before = stack(env.step(np.array([GO_ON, GO_ON]))[0])
    observations, rewards, dones, infos = env.step(np.array([GO_ON, action]))
    assert stack(observations)[0].tolist() == [2, before[0, 1], 0]  # the other env went on
    assert stack(observations)[1, 0] == 0
    assert stack(observations)[1, 1] != before[1, 1]
    assert (rewards.tolist(), dones.tolist()) == ([1.0, 0.0], [False, True])
    assert infos[0] == {"TimeLimit.truncated": False}
    assert np.array_equal(infos[1].pop("terminal_observation"), before[1])
    assert infos[1] == {"TimeLimit.truncated": True, "worker_restarted": cause}
    assert env.n_restarts == 1
    after = stack(env.step(np.array([GO_ON, GO_ON]))[0])
    assert after[:, 0].tolist() == [3, 1]


@pytest.mark.parametrize("action", [EXIT, RAISE])
def test_an_env_that_dies_in_a_reset_is_reset_with_a_fresh_seed(make: Any, action: int) -> None:
    env = make()
    env.reset()
    env.env_method("die_at_reset", action, indices=1)
    env.seed(3)
    env.set_options({"map": "large"})
    env.reset()
    first, second = env.reset_infos
    assert first == {"seed": 3, "options": {"map": "large"}}
    assert second["options"] == {"map": "large"}
    assert second["seed"] not in (None, 4)
    assert second["worker_restarted"] in ("exit status 3", "KeyError: 'lost the ball'")
    assert env.step(np.array([GO_ON, GO_ON]))[2].tolist() == [False, False]


def test_an_episode_that_ended_is_told_though_the_reset_behind_it_fails(make: Any) -> None:
    env = make()
    env.reset()
    before = stack(env.step(np.array([GO_ON, GO_ON]))[0])
    env.env_method("die_at_reset", RAISE, indices=0)
    observations, rewards, dones, infos = env.step(np.array([FINISH, FINISH]))
    assert (rewards.tolist(), dones.tolist()) == ([1.0, 1.0], [True, True])
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]
    assert infos[0]["worker_restarted"] == "KeyError: 'lost the ball'"
    assert infos[0]["terminal_observation"][0] == before[0, 0] + 1
    assert stack(observations)[:, 0].tolist() == [0, 0]
    assert env.step(np.array([GO_ON, GO_ON]))[2].tolist() == [False, False]


def test_an_env_that_dies_as_an_episode_ends_has_it_truncated(make: Any) -> None:
    """Its end was never told: SB3's worker resets before it answers."""
    env = make()
    env.reset()
    env.env_method("die_at_reset", EXIT, indices=0)
    _, rewards, dones, infos = env.step(np.array([FINISH, FINISH]))
    assert (rewards.tolist(), dones.tolist()) == ([0.0, 1.0], [True, True])
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]


CALLS: dict[str, Any] = {
    "get_attr": (lambda env: env.get_attr("level"), [0.0, 0.0]),
    "has_attr": (lambda env: env.has_attr("level"), True),
    "set_attr": (lambda env: env.set_attr("level", 2.0), None),
    "env_method": (lambda env: [found[0] for found in env.env_method("observe")], [1.0, 0.0]),
    "env_is_wrapped": (lambda env: env.env_is_wrapped(Monitor), [False, False]),
    "seed": (lambda env: env.seed(3), [3, 4]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_meets_a_dead_worker_is_answered_and_the_next_step_tells(make: Any, call: str) -> None:
    env = make()
    env.reset()
    before = stack(env.step(np.array([GO_ON, GO_ON]))[0])
    kill(env, 1)
    function, expected = CALLS[call]
    assert function(env) == expected
    observations, rewards, dones, infos = env.step(np.array([GO_ON, GO_ON]))
    assert stack(observations)[:, 0].tolist() == [2, 0]
    assert (rewards.tolist(), dones.tolist()) == ([1.0, 0.0], [False, True])
    assert infos[1]["worker_restarted"] == "SIGKILL, often for lack of memory"
    assert np.array_equal(infos[1]["terminal_observation"], before[1])
    assert env.n_restarts == 1


def test_a_reset_that_meets_a_dead_worker_tells_it_whenever_it_was_found(make: Any) -> None:
    env = make()
    env.reset()
    kill(env, 0)
    kill(env, 1)
    env.get_attr("level", indices=0)
    env.reset()
    assert ["worker_restarted" in info for info in env.reset_infos] == [True, True]
    assert env.step(np.array([GO_ON, GO_ON]))[2].tolist() == [False, False]


def test_pictures_of_a_dead_worker_are_those_of_the_new_one() -> None:
    kwargs = {"start_method": "fork"}
    env: Any = make_vec_env("CartPole-v1", 2, seed=0, vec_env_cls=RestartingVecEnv, vec_env_kwargs=kwargs)
    env.reset()
    kill(env, 1)
    assert [image.shape for image in env.get_images()] == [(400, 600, 3)] * 2
    assert env.render().shape == (800, 600, 3)
    env.close()


def test_what_set_attr_has_set_is_set_in_the_new_env(make: Any) -> None:
    env = make()
    env.reset()
    env.set_attr("level", 5.0, indices=1)
    observations = stack(env.step(np.array([EXIT, EXIT]))[0])
    assert observations[:, 2].tolist() == [0.0, 5.0]


def test_new_seeds_follow_from_the_old_ones(make: Any) -> None:
    played = []
    for seed in (7, 7, 8):
        env = make(seed=seed)
        env.reset()
        steps = [stack(env.step(np.full(2, action))[0])[:, 1] for action in (EXIT, GO_ON, RAISE)]
        played.append(np.array(steps))
        assert len(np.unique(np.array(steps))) == 4  # two envs, two restarts
    assert np.array_equal(played[0], played[1])
    assert not np.array_equal(played[0], played[2])


def test_what_an_attribute_or_a_method_raises_is_raised_here_and_the_worker_goes_on(make: Any) -> None:
    env = make()
    env.reset()
    with pytest.raises(AttributeError, match="mine"):
        env.get_attr("mine")
    with pytest.raises(ZeroDivisionError, match="by nothing") as found:
        env.env_method("fail", ZeroDivisionError("by nothing"))
    assert "in fail\n    raise error" in str(found.value.__cause__)
    with pytest.raises(TypeError, match="cannot pickle"):
        env.get_attr("lock")
    assert env.step(np.array([GO_ON, GO_ON]))[0][:, 0].tolist() == [1, 1]
    assert env.n_restarts == 0


def test_an_exception_that_cannot_be_brought_here_is_told_in_words(make: Any) -> None:
    env = make(1)
    env.reset()
    with pytest.raises(RuntimeError, match="Unpicklable: one and two"):
        env.env_method("fail_for_two_reasons")


def test_a_step_that_was_interrupted_does_not_answer_the_next_request(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make()
    env.reset()
    env.step_async(np.array([GO_ON, GO_ON]))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(env.remotes[1].link, "_poll", interrupt)
        with pytest.raises(KeyboardInterrupt):
            env.step_wait()
    assert env.get_attr("level") == [0.0, 0.0]
    assert stack(env.reset())[:, 0].tolist() == [0, 0]
    assert env.n_restarts == 0


def test_ppo_learns_the_same_as_with_sb3s_env_while_nobody_dies() -> None:
    models = []
    for cls in (SubprocVecEnv, RestartingVecEnv):
        env = make_vec_env("CartPole-v1", 3, seed=1, vec_env_cls=cls, vec_env_kwargs={"start_method": "fork"})
        models.append(PPO("MlpPolicy", VecNormalize(env), n_steps=32, batch_size=32, n_epochs=2, seed=1).learn(192))
        env.close()
    first, second = models
    assert_same_weights(first, second)
    assert [episode["r"] for episode in first.ep_info_buffer] == [episode["r"] for episode in second.ep_info_buffer]


def test_a_checkpoint_says_that_the_envs_cannot_be_read(make: Any) -> None:
    assert env_state(make(1)).problems == ["the state of the envs in RestartingVecEnv cannot be saved"]


def test_ppo_learns_on_while_workers_die(make: Any) -> None:
    env = make(env_fn=fragile, max_restarts=1000)
    wrapped = VecNormalize(VecFrameStack(VecMonitor(env), 2))
    model = PPO("MlpPolicy", wrapped, n_steps=16, batch_size=16, n_epochs=1, seed=0).learn(32)
    assert model.num_timesteps == 32
    assert len(model.ep_info_buffer or ()) == env.n_restarts > 10


def test_monitors_file_goes_on_with_the_new_worker(tmp_path: Path, make: Any) -> None:
    env = make(1, env_fn=lambda: Monitor(DyingEnv(), str(tmp_path / "0")))
    env.reset()
    for action in (GO_ON, FINISH, GO_ON, EXIT, FINISH, RAISE, GO_ON, GO_ON, FINISH):
        info = env.step(np.array([action]))[3][0]
        assert ("episode" in info) == (action == FINISH)
    found = load_results(str(tmp_path))
    assert found["l"].tolist() == [2, 1, 3]
    assert found["t"].is_monotonic_increasing


def test_an_evaluation_plays_another_episode_in_place_of_one_that_was_cut_off(make: Any) -> None:
    class Policy:
        actions = iter([GO_ON, GO_ON, EXIT, GO_ON, FINISH, FINISH])

        def predict(self, observations: Any, **_: Any) -> tuple[np.ndarray, None]:
            return np.array([next(self.actions)]), None

    env = make(1, env_fn=monitored)
    _, lengths = evaluate_policy(Policy(), env, 2, return_episode_rewards=True)  # type: ignore[arg-type]
    assert lengths == [2, 1]


def test_a_restart_warns_but_not_each_of_a_hail(make: Any) -> None:
    env = make(max_restarts=100)
    env.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            env.step(np.array([EXIT, EXIT]))
    (warning,) = (str(each.message) for each in caught if "worker" in str(each.message))
    assert "env 0 has died of exit status 3: its episode ends as truncated" in warning
    assert env.n_restarts == 6
