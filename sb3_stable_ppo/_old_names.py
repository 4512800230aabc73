"""
Where the modules of version 0.1.0 went: 79 in one folder, now in rooms.

Saved models name the classes in them by module (``sb3_stable_ppo.guard_config``), and so do configurations
(``sb3_stable_ppo.zoo_masks.InfoActionMasks``). ``MODULES`` is the one table that keeps these names importable;
``RENAMED`` adds classes that have another name now. Functions that were no part of the interface may be gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "sb3_stable_ppo"

MODULES: dict[str, tuple[str, ...]] = {
    "alarms": ("health.alarms",),
    "body": ("policies.blocks", "common.checks"),
    "buffer_rows": ("probes.rows",),
    "cached_casts": ("fast.weight_cache",),
    "calibration": ("policies.calibration", "metrics.layers"),
    "callbacks": ("snapshots.callback", "runs.callback"),
    "charts": ("report.charts", "report.chart_list", "report.figures", "report.heat_maps", "report.marks"),
    "cli": ("cli.app",),
    "cli_arguments": ("cli.arguments", "common.packages"),
    "cli_bench": ("cli.bench",),
    "cli_doctor": ("cli.doctor",),
    "cli_enjoy": ("cli.enjoy",),
    "cli_plot": ("cli.plot",),
    "cli_report": ("cli.report", "report.write"),
    "cli_train": ("cli.train",),
    "cli_tune": ("cli.tune",),
    "comparison": ("report.comparison",),
    "config_check": ("doctor.config_rules",),
    "counting": ("schedules.update_counter",),
    "crew": ("parallel.local",),
    "diagnosis": ("doctor.diagnosis",),
    "doctor": ("doctor.examination", "cli.doctor"),
    "env_ids": ("envs.registry",),
    "envs": ("envs.atari", "envs.atari_vec_env", "envs.atari_ids"),
    "errors": ("common.errors",),
    "film": ("snapshots.timeline",),
    "film_export": ("snapshots.export",),
    "findings": ("doctor.findings",),
    "gradient_tap": ("probes.gradients",),
    "guard_config": ("guards.config", "common.errors"),
    "guard_math": ("guards.arithmetic", "metrics.kl"),
    "guarded_update": ("guards.update",),
    "guards": ("guards.mixin",),
    "health": ("health.figures", "probes.activations", "common.layer_names"),
    "health_callback": ("health.callback",),
    "hyperparams": ("zoo.hyperparams",),
    "interruption": ("common.signals",),
    "layers": ("policies.extractors",),
    "lr_callback": ("schedules.callback",),
    "metrics": ("metrics.layers",),
    "observations": ("guards.checked_env",),
    "outcomes": ("report.checks", "report.check", "report.activity", "report.verdict", "runs.series"),
    "patching": ("common.patching",),
    "pictures": ("snapshots.pictures",),
    "policies": ("policies.classes",),
    "policy_metrics": ("metrics.policy",),
    "policy_mixin": ("policies.mixin",),
    "policy_outputs": ("probes.outputs",),
    "probes": ("probes.activations", "probes.layers", "probes.activation_modules"),
    "ray_crew": ("parallel.ray",),
    "report": ("report.page",),
    "rollout_buffer": ("fast.rollout_buffer",),
    "run_data": ("runs.data", "runs.series"),
    "runs": ("runs.folder", "common.files"),
    "saved_models": ("doctor.saved_models",),
    "schedules": ("schedules.learning_rate", "schedules.counting"),
    "search_space": ("studies.space",),
    "seeds": ("zoo.seeds",),
    "speed": ("fast.execution", "fast.config", "fast.compiling"),
    "storages": ("studies.storage",),
    "studies": ("studies.study", "studies.worker_names"),
    "study_page": ("studies.page",),
    "threads": ("fast.threads",),
    "trial_runs": ("tuning.trial", "tuning.managers"),
    "tune_worker": ("tuning.worker",),
    "tuning": ("tuning.coordinator",),
    "tuning_results": ("tuning.results",),
    "undo": ("guards.backup", "guards.reading", "common.tensors"),
    "weight_metrics": ("metrics.weights",),
    "weights_only": ("doctor.untrusted_zip", "doctor.weights"),
    "zoo": ("zoo.manager", "zoo.callbacks"),
    "zoo_envs": ("zoo.atari_options",),
    "zoo_masks": ("zoo.masks", "envs.action_masks"),
    "zoo_registry": ("zoo.registry",),
    "zoo_trials": ("zoo.trials",),
}
"""By a module's old name, the modules in which its names are now."""

RENAMED: dict[str, str] = {
    "Body": "BlockConfig",
    "CnnBody": "CnnPolicyMixin",
    "Film": "Timeline",
    "GradientTap": "GradientRecorder",
    "LayerFilm": "LayerTimeline",
    "MlpBody": "MlpPolicyMixin",
    "MultiInputBody": "MultiInputPolicyMixin",
    "Outcome": "Check",
    "Picked": "Resolved",
    "PongBody": "PongPolicyMixin",
    "Seen": "PolicyReading",
    "Speed": "FastPathConfig",
}
"""By a class's old name, its name now."""


def find_old_name(module: str, name: str) -> Any:
    """
    What was called ``module.name`` in version 0.1.0.

    :param module: such as ``sb3_stable_ppo.guard_config``
    :param name: of a class, a function or a constant in it
    :raises AttributeError: if there was no such module, or it had no such name
    """
    for new in MODULES.get(module.removeprefix(f"{PACKAGE}."), ()):
        found = import_module(f"{PACKAGE}.{new}")
        for current in (name, RENAMED.get(name, name)):
            if hasattr(found, current):
                return getattr(found, current)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class _OldModules(MetaPathFinder, Loader):
    """
    Imports a module by its old name: an empty one, whose names are looked up when they are asked for. Where a room has
    the old module's name (``policies``, ``schedules``), Python finds the room first, and its ``__init__`` looks up.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # importlib's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == PACKAGE and module in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = partial(find_old_name, module.__name__)  # type: ignore[method-assign]


def keep_importable() -> None:
    """Let Python import the modules of ``MODULES`` by their old names; done once, when the package is imported."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())
