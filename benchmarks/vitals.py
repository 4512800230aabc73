"""The vital signs of a PPO run, update by update, for any policy and algorithm, and what counts as a collapse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_stable_ppo.guards.reading import Reading, draw_probe_batch, read, row_mask
from sb3_stable_ppo.metrics.kl import mean_kl
from sb3_stable_ppo.metrics.layers import dormant_fraction, srank
from sb3_stable_ppo.probes.activations import ActivationProbe

ROWS, LAST = 512, 3


def guard_counts(model: Any) -> dict[str, Any]:
    """
    What the guards did in a model's whole life: None for an algorithm without guards.

    The package logs these figures after each update, and SB3's logger forgets them when it writes them.

    :param model: after training, however it ended
    """
    names = ("undone_updates", "dropped_updates", "lr_scale")
    return {name: getattr(model, f"_{name}", None) for name in names}


class Vitals(NamedTuple):
    """After an update: its KL, the layers, the policy, and the mean return of the last 100 episodes."""

    step: int
    kl: float
    finite: bool
    dormant: float
    dormant_layer: str
    srank: int
    entropy: float
    ret: float | None


def collapsed(signs: Sequence[Vitals], floor: float) -> str | None:
    """
    Which of the definitions in docs/gauntlet.md a run meets, or None.

    :param signs: after each update
    :param floor: the return of an agent that does nothing useful
    """
    for sign in signs:
        if not sign.finite:
            return f"weights not finite at step {sign.step}"
        if not sign.kl <= 10:
            return f"KL {sign.kl:.3g} at step {sign.step}"
    last = signs[-LAST:]
    if all(sign.dormant > 0.9 for sign in last):
        return f"{last[-1].dormant:.0%} of {last[-1].dormant_layer} dormant"
    if all(sign.srank <= 2 for sign in last):
        return f"srank {last[-1].srank}"
    if all(sign.entropy < 0.01 and sign.ret is not None and sign.ret <= floor for sign in last):
        return f"entropy {last[-1].entropy:.1%} of its maximum at a return of {last[-1].ret:.3g}"
    return None


class VitalSigns(BaseCallback):
    """Reads them after each update, on rows of the rollout that the update was made with."""

    def __init__(self) -> None:
        super().__init__()
        self.signs: list[Vitals] = []
        self.returns: list[tuple[int, float]] = []
        self._before: tuple[Any, Reading] | None = None

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.returns.append((self.num_timesteps, float(info["episode"]["r"])))
        return True

    def _on_rollout_end(self) -> None:
        model: Any = self.model
        rows = draw_probe_batch(model.rollout_buffer, ROWS)
        self._before = rows, read(model.policy, ActivationProbe(model.policy), rows, model.action_space)

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        self._look()

    def _look(self) -> None:
        if self._before is None:
            return
        (rows, before), self._before = self._before, None
        model: Any = self.model
        finite = all(bool(th.isfinite(value).all()) for value in model.policy.parameters())
        recent = [value for _, value in self.returns[-100:]]
        ret = float(np.mean(recent)) if recent else None
        if not finite:
            self.signs.append(Vitals(self.num_timesteps, math.nan, False, 1.0, "all", 0, 0.0, ret))
            return
        probe, mask = ActivationProbe(model.policy), row_mask(rows)
        with probe.listening() as heard:  # the layers behind an LSTM too, which a probe by itself does not reach
            after = read(model.policy, ActivationProbe(model.policy), rows, model.action_space)
        activations = {
            name: (tensor if mask is None or len(tensor) != len(mask) else tensor[mask]).float()
            for name, tensor in heard.items()
        }
        dormant = {name: dormant_fraction(tensor) for name, tensor in activations.items()}
        worst = max(dormant, key=lambda name: dormant[name])
        actor = [name for name in activations if not name.startswith("vf")][-1]
        parts = after.distributions
        entropy = sum(part.entropy().mean() for part in parts)
        most = sum(math.log(part.logits.shape[-1]) for part in parts if hasattr(part, "logits"))
        self.signs.append(
            Vitals(
                self.num_timesteps,
                mean_kl(before.distributions, after.distributions, mask),
                True,
                dormant[worst],
                worst,
                srank(activations[actor].flatten(1)),
                float(entropy) / most if most else 1.0,
                ret,
            )
        )
