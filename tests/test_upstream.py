"""
The canary: what we override, call or patch of SB3, sb3-contrib and rl_zoo3 still has its name and its signature.

An override whose method upstream has renamed would silently never be called. A new version that breaks a test here has
to be read before we support it.
"""

import ast
import importlib
import inspect
import pkgutil
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

import sb3_stable_ppo
from helpers.processes import ROOT

UPSTREAM = ("stable_baselines3", "sb3_contrib", "rl_zoo3")
STANDS_BEFORE: dict[str, tuple[type, ...]] = {
    "BatchNormStatistics": (ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy),
    "CompilesOneRegion": (ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy),
    "CountsUpdates": (PPO, MaskablePPO, RecurrentPPO),
    "GuardMixin": (PPO, MaskablePPO, RecurrentPPO),
    "LeanActing": (ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy),
    "ReplaysGraphs": (ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy),
    "TriesCompiling": (ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy),
    "NormalizesValues": (PPO, MaskablePPO, RecurrentPPO),
    "StablePolicyMixin": (ActorCriticPolicy, MaskableActorCriticPolicy, RecurrentActorCriticPolicy),
}
"""Mixins: the classes whose methods they override, which their own bases do not tell."""

OVERRIDES: dict[str, dict[str, str]] = {
    "ActivationSnapshotCallback": {
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "AtariVecEnv": {
        "close": "self",
        "get_images": "self",
        "reset": "self",
        "step_async": "self, actions",
        "step_wait": "self",
    },
    "BatchVecEnv": {
        "close": "self",
        "env_is_wrapped": "self, wrapper_class, indices",
        "env_method": "self, method_name, method_args, indices, method_kwargs",
        "get_attr": "self, attr_name, indices",
        "set_attr": "self, attr_name, value, indices",
    },
    "EnvPoolVecEnv": {
        "close": "self",
        "reset": "self",
        "set_options": "self, options",
        "step_async": "self, actions",
        "step_wait": "self",
    },
    "ContinuedLogger": {"record": "self, key, value, exclude"},
    "RunCheckpoint": {
        "_on_rollout_end": "self",
        "_on_rollout_start": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "CheckedVecEnv": {"reset": "self", "step_wait": "self"},
    "BatchNormStatistics": {"set_training_mode": "self, mode"},
    "CountsUpdates": {
        "_setup_learn": "self, total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar",
        "_setup_lr_schedule": "self",
        "train": "self",
    },
    "GradientRider": {"_on_rollout_start": "self", "_on_training_end": "self"},
    "GuardCallback": {
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "Intervention": {
        "_on_rollout_end": "self",
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "UnitIntervention": {"_on_rollout_start": "self", "_on_training_end": "self"},
    "GuardMixin": {
        "_excluded_save_params": "self",
        "_setup_model": "self",
        "_update_learning_rate": "self, optimizers",
        "collect_rollouts": "self, env, callback, rollout_buffer, n_rollout_steps",
        "train": "self",
    },
    "HealthCallback": {
        "_on_rollout_end": "self",
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "LRSchedulerCallback": {
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "RecordedManager": {"create_callbacks": "self", "learn": "self, model"},
    "RestartingVecEnv": {
        "close": "self",
        "reset": "self",
        "step_async": "self, actions",
        "step_wait": "self",
    },
    "RunCallback": {"_on_step": "self", "_on_training_start": "self"},
    "RunRecorder": {
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "StableExperimentManager": {
        "_load_pretrained_agent": "self, hyperparams, env",
        "_preprocess_hyperparams": "self, hyperparams",
        "_preprocess_schedules": "hyperparams",
        "_save_config": "self, saved_hyperparams",
        "create_callbacks": "self",
        "create_envs": "self, n_envs, eval_env, no_log",
        "hyperparameters_optimization": "self",
        "learn": "self, model",
        "objective": "self, trial",
        "read_hyperparameters": "self",
        "setup_experiment": "self",
    },
    "ResumedManager": {
        "_load_pretrained_agent": "self, hyperparams, env",
        "_save_config": "self, saved_hyperparams",
        "create_envs": "self, n_envs, eval_env, no_log",
        "read_hyperparameters": "self",
    },
    "NormalizedFlattenExtractor": {"forward": "self, observations"},
    "NormalizesValues": {"train": "self"},
    "StablePolicyMixin": {
        "_build": "self, lr_schedule",
        "_build_mlp_extractor": "self",
        "_get_constructor_parameters": "self",
        "forward": "self, obs, deterministic",
        "set_training_mode": "self, mode",
    },
    "BytesToExtractor": {"extract_features": "self, obs, features_extractor"},
    "CompilesOneRegion": {"evaluate_actions": "self, obs, actions", "forward": "self, obs, deterministic"},
    "ReplaysGraphs": {
        "evaluate_actions": "self, obs, actions",
        "forward": "self, obs, deterministic",
        "get_distribution": "self, obs",
        "predict_values": "self, obs",
    },
    "LeanActing": {
        "_predict": "self, observation, deterministic",
        "evaluate_actions": "self, obs, actions",
        "forward": "self, obs, deterministic",
        "set_training_mode": "self, mode",
    },
    "TriesCompiling": {"evaluate_actions": "self, obs, actions", "set_training_mode": "self, mode"},
    "Clock": {
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "StableRecurrentMixin": {"_get_constructor_parameters": "self"},
    "TorchDictRolloutBuffer": {
        "_get_samples": "self, batch_inds, env",
        "add": "self, obs, action, reward, episode_start, value, log_prob",
        "reset": "self",
    },
    "TorchRolloutBuffer": {
        "_get_samples": "self, batch_inds, env",
        "add": "self, obs, action, reward, episode_start, value, log_prob",
        "reset": "self",
    },
    "ProgressLines": {
        "_on_rollout_start": "self",
        "_on_step": "self",
        "_on_training_end": "self",
        "_on_training_start": "self",
    },
    "StopTrainingOnReturn": {"_on_step": "self", "_on_training_start": "self"},
    "TrialManager": {"create_callbacks": "self"},
    "ValueNormCallback": {"_on_rollout_end": "self", "_on_step": "self", "_on_training_start": "self"},
}
"""By class of ours and method, the parameters that upstream's method has (of the first class that it stands before)."""


def own_classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(sb3_stable_ppo.__path__, "sb3_stable_ppo."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            ours = (info.name, "sb3_stable_ppo")
            found |= {n: c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ in ours}
    return found


def upstream_of(cls: type) -> list[type]:
    """The classes of upstream that a class of ours has methods of, the nearest first."""
    bases = [base for known in STANDS_BEFORE.get(cls.__name__, (cls,)) for base in known.__mro__]
    return [base for base in bases if base.__module__.partition(".")[0] in UPSTREAM]


def parameters_of(method: Any) -> str:
    function = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
    return ", ".join(inspect.signature(function).parameters)


def overrides_of(cls: type) -> dict[str, str]:
    """The methods that a class of ours overrides, with the parameters that upstream's have."""
    found = {}
    for name, value in vars(cls).items():
        is_method = inspect.isfunction(value) or isinstance(value, (staticmethod, classmethod, property))
        theirs = next((base for base in upstream_of(cls) if name in vars(base)), None)
        if is_method and not name.startswith("__") and theirs is not None:
            found[name] = parameters_of(inspect.getattr_static(theirs, name))
    return found


def test_every_method_that_we_override_exists_upstream_with_the_same_parameters() -> None:
    found = {name: overrides_of(cls) for name, cls in own_classes().items() if upstream_of(cls)}
    assert {name: methods for name, methods in found.items() if methods} == OVERRIDES


@pytest.mark.parametrize("name", STANDS_BEFORE)
def test_a_mixin_overrides_a_method_of_every_class_that_it_stands_before(name: str) -> None:
    for method in OVERRIDES[name]:
        for theirs in STANDS_BEFORE[name]:
            assert hasattr(theirs, method), f"{theirs.__name__} no longer has {method}"


def test_every_method_that_we_call_by_super_exists_upstream() -> None:
    """Also of classes whose overrides a change of bases would turn into new methods."""
    classes, called = own_classes(), 0
    for path in (ROOT / "sb3_stable_ppo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef) or not upstream_of(classes.get(node.name, object)):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "super()":
                    mro = [*classes[node.name].__mro__[1:], *upstream_of(classes[node.name])]
                    assert any(call.attr in vars(base) for base in mro), f"{node.name}: super().{call.attr}"
                    called += 1
    assert called > 40


PATCHED = {
    ("cli/enjoy.py", "argparse.ArgumentParser", "error"),
    ("cli/enjoy.py", "rl_zoo3.enjoy", "create_test_env"),
    ("cli/enjoy.py", "rl_zoo3.enjoy", "ALGOS"),
    ("cli/train.py", "argparse.ArgumentParser", "error"),
    ("cli/train.py", "rl_zoo3.train", "ExperimentManager"),
    ("envs/worker_process.py", "monitor", "ResultsWriter"),
    ("guards/checked_step.py", "self.venv", "step_wait"),
    ("guards/update.py", "self.model", "normalize_advantage"),
    ("guards/update.py", "self.model.rollout_buffer", "get"),
    ("guards/update.py", "self.model.policy", "evaluate_actions"),
    ("interventions/aside.py", "network", "_begin_pass"),
    ("interventions/aside.py", "network", "action_dist"),
    ("interventions/feature_regularization.py", "buffer", "_get_samples"),
    ("zoo/manager.py", "rl_zoo3.exp_manager", "yaml"),
    ("zoo/manager.py", "self", "args"),
    ("zoo/manager.py", "self", "config"),
    ("zoo/manager.py", "self", "custom_hyperparams"),
    ("zoo/masks.py", "rl_zoo3.exp_manager", "EvalCallback"),
    ("zoo/masks.py", "rl_zoo3.exp_manager", "TrialEvalCallback"),
    ("zoo/redaction.py", "rl_zoo3.exp_manager", "pkl"),
    ("zoo/resumed_manager.py", "batch_vec_env", "ResultsWriter"),
    ("zoo/resumed_manager.py", "rl_zoo3.exp_manager", "make_vec_env"),
    ("zoo/resumed_manager.py", "warnings", "showwarning"),
}
"""Module of ours, owner and name of every attribute of upstream that we shadow while a call runs."""


def test_every_patch_of_upstream_is_on_the_list() -> None:
    found = set()
    for path in (ROOT / "sb3_stable_ppo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "patched":
                owner, name = node.args[:2]
                if isinstance(name, ast.Constant) and ast.unparse(owner) != "sys":
                    place = path.relative_to(ROOT / "sb3_stable_ppo").as_posix()
                    found.add((place, ast.unparse(owner), name.value))
    assert found == PATCHED


def test_every_patched_attribute_exists_and_is_used_upstream_by_that_name() -> None:
    for _, owner, name in PATCHED:
        if owner.startswith("rl_zoo3"):
            module = importlib.import_module(owner)
            used = {node.id for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Name)}
            assert hasattr(module, name), f"{owner} no longer has {name}"
            assert name in used, f"{owner} no longer uses {name}"


@pytest.mark.parametrize("policy", STANDS_BEFORE["ReplaysGraphs"])
def test_every_method_that_runs_an_extractor_ends_in_the_next_class_behind_it(policy: Any) -> None:
    """So that ``BytesToExtractor``, which stands there, sees all observations."""
    source = inspect.getsource(policy)
    calls = source.count("extract_features(obs, self.pi_features_extractor)")
    assert calls > 0
    assert calls == len(re.findall(r"super\(.*\)\.extract_features\(obs, self\.pi_features_extractor\)", source))


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
    assert parameters_of(subproc_vec_env._worker) == "remote, parent_remote, env_fn_wrapper"
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
