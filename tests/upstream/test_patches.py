"""What we shadow of upstream while a call runs still exists, and is still used by that name."""

import ast
import importlib
import inspect

from helpers.processes import ROOT

PATCHED = {
    ("cli/app.py", "warnings", "formatwarning"),
    ("cli/enjoy.py", "argparse.ArgumentParser", "error"),
    ("cli/enjoy.py", "rl_zoo3.enjoy", "create_test_env"),
    ("cli/enjoy.py", "rl_zoo3.enjoy", "ALGOS"),
    ("cli/train.py", "argparse.ArgumentParser", "error"),
    ("cli/train.py", "rl_zoo3.train", "ExperimentManager"),
    ("envs/worker_process.py", "monitor", "ResultsWriter"),
    ("guards/checked_step.py", "self.venv", "step_wait"),
    ("guards/reading.py", "policy", "_get_action_dist_from_latent"),
    ("guards/update.py", "self.model", "normalize_advantage"),
    ("guards/update.py", "self.model.rollout_buffer", "get"),
    ("guards/update.py", "self.policy", "evaluate_actions"),
    ("interventions/aside.py", "network", "_begin_pass"),
    ("interventions/aside.py", "network", "action_dist"),
    ("interventions/feature_regularization.py", "buffer", "_get_samples"),
    ("zoo/configuration.py", "manager", "config"),
    ("zoo/configuration.py", "rl_zoo3.exp_manager", "importlib"),
    ("zoo/configuration.py", "rl_zoo3.exp_manager", "yaml"),
    ("zoo/configured_manager.py", "self", "args"),
    ("zoo/configured_manager.py", "self", "custom_hyperparams"),
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
