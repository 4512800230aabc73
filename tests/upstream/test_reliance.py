"""What upstream does inside, on which our code relies, it still does."""

import ast
import inspect
import re
import textwrap
from typing import Any

import pytest
import rl_zoo3.enjoy
import rl_zoo3.exp_manager
import rl_zoo3.train
from sb3_contrib import QRDQN, TQC, TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, subproc_vec_env


@pytest.mark.parametrize("policy", [ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy])
def test_every_method_that_runs_an_extractor_ends_in_the_next_class_behind_it(policy: Any) -> None:
    """So that ``BytesToExtractor``, which stands there, sees all observations."""
    source = inspect.getsource(policy)
    calls = source.count("extract_features(obs, self.pi_features_extractor)")
    assert calls > 0
    assert calls == len(re.findall(r"super\(.*\)\.extract_features\(obs, self\.pi_features_extractor\)", source))


RELIED_ON = {
    "all": (
        "self.policy.set_training_mode(True)",
        "self._update_learning_rate(self.policy.optimizer)",
        "for rollout_data in self.rollout_buffer.get(self.batch_size):",
        "values, log_prob, entropy = self.policy.evaluate_actions(",
        "ratio = th.exp(log_prob - rollout_data.old_log_prob)",
        "if entropy is None:",
        "self.policy.optimizer.zero_grad()",
        "th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)",
        "self.policy.optimizer.step()",
        "self._n_updates += 1",
    ),
    PPO: (
        "if self.normalize_advantage and len(advantages) > 1:",
        "advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)",
    ),
    MaskablePPO: (
        "if self.normalize_advantage:",
        "advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)",
        "action_masks=rollout_data.action_masks",
    ),
    RecurrentPPO: (
        "if self.normalize_advantage:",
        "mask = rollout_data.mask > 1e-8",
        "advantages = (advantages - advantages[mask].mean()) / (advantages[mask].std() + 1e-8)",
    ),
}


@pytest.mark.parametrize("stock", [PPO, MaskablePPO, RecurrentPPO])
def test_what_the_guards_rely_on_in_train_is_still_there(stock: Any) -> None:
    source = " ".join(inspect.getsource(stock.train).split())
    for line in (*RELIED_ON["all"], *RELIED_ON[stock]):
        assert line in source, f"{stock.__name__}.train no longer has: {line}"


@pytest.mark.parametrize("stock", [PPO, MaskablePPO, RecurrentPPO])
def test_what_the_guards_rely_on_in_collect_rollouts_is_still_there(stock: Any) -> None:
    source = " ".join(inspect.getsource(stock.collect_rollouts).split())
    for line in ("env.step(", "rollout_buffer.compute_returns_and_advantage(last_values=values, dones=dones)"):
        assert line in source, f"{stock.__name__}.collect_rollouts no longer has: {line}"


@pytest.mark.parametrize("stock", [PPO, MaskablePPO, RecurrentPPO])
def test_train_uses_what_the_guards_shadow(stock: Any) -> None:
    source = inspect.getsource(stock.train)
    for used in ("self.normalize_advantage", "self.rollout_buffer.get(", "self.policy.evaluate_actions("):
        assert used in source, f"{stock.__name__}.train no longer has {used}"


@pytest.mark.parametrize(
    ("method", "uses"),
    [
        (BaseAlgorithm._setup_learn, ["self.start_time ="]),  # by which hooks of a run that broke off know their end
        (RolloutBuffer.get, ["self._get_samples("]),
        (VecEnv.step, ["self.step_wait()"]),
        (ActorCriticPolicy.evaluate_actions, ["self.value_net("]),
        (DQN.train, ["self.q_net(", "self.policy.optimizer.step()", "self._n_updates +="]),
        (DQN._on_step, ["self._n_calls += 1", "self.target_update_interval"]),
        (QRDQN.train, ["self.quantile_net("]),
        (SAC.train, ["self.critic(", "self.actor.optimizer.step()", "self.critic.optimizer.step()"]),
        (TD3.train, ["self.critic(", "self.critic.q1_forward("]),
        (TQC.train, ["self.critic("]),
        (TRPO.train, ["self.policy.optimizer.step()"]),
    ],
)
def test_the_algorithms_still_call_what_interventions_listen_to(method: Any, uses: list[str]) -> None:
    source = inspect.getsource(method)
    for used in uses:
        assert used in source, f"{method.__qualname__} no longer has {used}"


def test_sb3s_worker_still_says_what_ours_relies_on() -> None:
    worker, init = inspect.getsource(subproc_vec_env._worker), inspect.getsource(SubprocVecEnv.__init__)
    parameters = list(inspect.signature(subproc_vec_env._worker).parameters)
    assert parameters == ["remote", "parent_remote", "env_fn_wrapper"]
    for used in (
        "env = _patch_env(env_fn_wrapper.var())",
        "except EOFError:",
        "remote.close()",
        "remote.send((observation, reward, done, info, reset_info))",
        "observation, reset_info = env.reset(seed=data[0], **maybe_options)",
        "remote.send((observation, reset_info))",
        "setattr(env, data[0], data[1])",
        "remote.send((env.observation_space, env.action_space))",
    ):
        assert used in worker, f"SB3's _worker no longer has {used}"
    assert worker.count("except ") == 3  # an AttributeError of has_attr, EOFError, KeyboardInterrupt
    assert set(re.findall(r"self\.(\w+)[ ,]", init)) == {"waiting", "closed", "remotes", "work_remotes", "processes"}
    assert "work_remotes" not in inspect.getsource(SubprocVecEnv).replace(init, "")
    methods = inspect.getsource(SubprocVecEnv).replace(init, "").replace(inspect.getsource(SubprocVecEnv.close), "")
    assert set(re.findall(r"\b(?:remote|pipe)\.(\w+)", methods)) == {"send", "recv"}
    assert "results_writer = ResultsWriter(" in inspect.getsource(Monitor.__init__)


def test_the_experiment_manager_still_writes_and_reads_what_we_redact() -> None:
    source = inspect.getsource(rl_zoo3.exp_manager)
    for used in ("self.args", "sys.orig_argv", "pkl.dump(", "report_"):
        assert used in source, f"rl_zoo3's exp_manager no longer has {used}"


def test_the_experiment_manager_still_reads_hyperparameters_as_we_hand_them_over() -> None:
    source = inspect.getsource(rl_zoo3.exp_manager.ExperimentManager.read_hyperparameters)
    tree = ast.parse(textwrap.dedent(source))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {"self.config", "self.custom_hyperparams", "yaml.safe_load"} <= used
    assert [name for name in used if name.startswith("yaml.")] == ["yaml.safe_load"]
