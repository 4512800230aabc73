"""
Health in SB3's logger: what is read from it, and what is written to it.
"""

from __future__ import annotations

from functools import partial

from stable_baselines3.common.logger import Logger

from sb3_stable_ppo.common.log_formats import TABLE
from sb3_stable_ppo.health.figures import Figures

CONSTANT = ("rows", "width", "inputs")
"""Of the features; they stand in ``health.jsonl``."""
TRAIN = ("approx_kl", "clip_fraction", "entropy_loss", "explained_variance", "loss", "value_loss", "learning_rate")


def train_figures(logger: Logger, on_policy: bool) -> Figures:
    """
    What SB3's ``train()`` has just logged, and as ``kl`` the guards' unclamped one, or SB3's estimate.

    :param logger: the model's
    :param on_policy: whether the algorithm has a KL of the update
    """
    logged = logger.name_to_value
    found = {name: logged[f"train/{name}"] for name in TRAIN if f"train/{name}" in logged}
    kl = logged.get("guards/update_kl", found.get("approx_kl"))
    return found if kl is None or not on_policy else {**found, "kl": kl}


def log_figures(logger: Logger, figures: Figures, n_alarms: int) -> None:
    """
    Log a measurement under ``health/``. The printed table has the number of alarms alone, and only where there are any.

    :param logger: the model's
    :param figures: of the measurement
    :param n_alarms: how many alarms are raised
    """
    record = partial(logger.record, exclude=TABLE)
    for layer, values in figures["layers"].items():
        record(f"health/{layer}/live_fraction", values["live"] / values["units"])
        record(f"health/{layer}/{values['fault']}_fraction", values["fault_fraction"])
        record(f"health/{layer}/dormant_fraction", values["dormant_fraction"])
    for part in ("features", "policy", "update", "weights", "norms"):
        for name, value in figures.get(part, {}).items():
            if not isinstance(value, str) and name not in CONSTANT:
                record(f"health/{part}/{name}", value)
    for layer, values in figures.get("gradients", {}).items():
        for name, value in values.items():
            record(f"health/{layer}/{name}", value)
    logger.record("health/alarms", n_alarms, exclude=None if n_alarms else TABLE)
