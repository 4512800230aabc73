"""What we override of SB3, sb3-contrib and rl_zoo3 still has its name and its signature.

An override whose method upstream has renamed would silently never be called. A new version that breaks a test here has
to be read before we support it.
"""

import ast
import importlib
import inspect
import pkgutil
from typing import Any

import pytest
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

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
    "UndoMixin": (PPO, MaskablePPO, RecurrentPPO),
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
    "CheckedVecEnv": {"reset": "self", "step": "self, actions", "step_wait": "self"},
    "BatchNormStatistics": {"evaluate_actions": "self, obs, actions", "set_training_mode": "self, mode"},
    "CountsUpdates": {
        "_setup_learn": "self, total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar",
        "_setup_lr_schedule": "self",
        "train": "self",
    },
    "EpisodeCounter": {"reset": "self", "step_wait": "self"},
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
        "collect_rollouts": "self, env, callback, rollout_buffer, n_rollout_steps",
        "save": "self, path, exclude, include",
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
    "ConfiguredManager": {
        "_load_pretrained_agent": "self, hyperparams, env",
        "_maybe_normalize": "self, env, eval_env",
        "_preprocess_hyperparams": "self, hyperparams",
        "_preprocess_schedules": "hyperparams",
        "_save_config": "self, saved_hyperparams",
        "create_envs": "self, n_envs, eval_env, no_log",
        "read_hyperparameters": "self",
    },
    "StableExperimentManager": {
        "create_callbacks": "self",
        "hyperparameters_optimization": "self",
        "learn": "self, model",
        "objective": "self, trial",
        "save_trained_model": "self, model",
        "setup_experiment": "self",
    },
    "ResumedManager": {
        "_load_pretrained_agent": "self, hyperparams, env",
        "_maybe_normalize": "self, env, eval_env",
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
    "TrialCheckpoint": {"_on_training_end": "self"},
    "TrialManager": {"create_callbacks": "self"},
    "UndoMixin": {
        "_excluded_save_params": "self",
        "_setup_learn": "self, total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar",
        "_setup_model": "self",
        "_update_learning_rate": "self, optimizers",
    },
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
