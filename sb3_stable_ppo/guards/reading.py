"""
What a policy does on some rows of a rollout: read before and after an update, and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.files import packed, write_atomically
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.metrics.layers import but_units, spread
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.outputs import parts_of


class Reading(NamedTuple):
    """
    What a policy does on some rows: its action distributions (none where they are not torch's), the log-probabilities
    of the actions taken, and by layer how much each unit varies and, but for tanh and its kind, whether it is positive
    on any of them. A unit of ``crelu`` varies as the livelier of its two outputs does, and is positive where one of
    them is.
    """

    distributions: list[th.distributions.Distribution]
    log_prob: th.Tensor
    spread: dict[str, th.Tensor]
    positive: dict[str, th.Tensor]
    layer_rows: dict[str, int]
    """On how many rows each layer was run. That of an expert, to which a gate sends rows, is run on some of them."""


def read(policy: BasePolicy, probe: ActivationProbe, samples: Any, action_space: spaces.Space[Any]) -> Reading:
    """
    Run a policy on rows of a rollout, in eval mode, without a trace. Relies on ``_get_action_dist_from_latent``, from
    which ``evaluate_actions`` of SB3 and sb3-contrib has its distribution.

    :param policy: of PPO, MaskablePPO or RecurrentPPO
    :param probe: for that policy
    :param samples: a minibatch of its rollout buffer
    :param action_space: the action space
    """
    actions = samples.actions.long().flatten() if isinstance(action_space, spaces.Discrete) else samples.actions
    extra = {
        name: getattr(samples, name)
        for name in ("action_masks", "lstm_states", "episode_starts")
        if hasattr(samples, name)
    }
    made: list[Any] = []
    make: Callable[..., Any] = policy._get_action_dist_from_latent  # type: ignore[assignment]

    def make_and_keep(*args: Any, **kwargs: Any) -> Any:
        made.append(make(*args, **kwargs))
        return made[-1]

    with patched(policy, "_get_action_dist_from_latent", make_and_keep), probe.listening() as activations:
        _, log_prob, _ = policy.evaluate_actions(samples.observations, actions, **extra)  # type: ignore[operator]
    # SB3 keeps one distribution object per policy; what is in it is made anew with every evaluation
    parts: list[th.distributions.Distribution] = []
    if made:
        with suppress(AttributeError):  # a distribution of the user's may keep torch's under another name
            parts = parts_of(made[-1])
    mask = row_mask(samples)
    kept_rows = {
        name: tensor if mask is None else tensor[mask]
        for name, tensor in activations.items()
        if mask is None or len(tensor) == len(mask)  # tokens first, or folded into the batch: no row of it is known
    }
    # An expert that nothing was sent to has no rows
    kept_rows = {name: tensor for name, tensor in kept_rows.items() if len(tensor)}
    return Reading(
        parts,
        log_prob,
        {name: probe.by_unit(name, spread(tensor.float())).amax(dim=0) for name, tensor in kept_rows.items()},
        {
            name: probe.by_unit(name, tensor.amax(dim=but_units(tensor)) > 0).any(dim=0)
            for name, tensor in kept_rows.items()
            if name not in probe.saturating
        },
        {name: len(tensor) for name, tensor in kept_rows.items()},
    )


def row_mask(samples: Any) -> th.Tensor | None:
    """Which rows of a minibatch hold data; None where none is padded (all but RecurrentPPO's)."""
    return samples.mask > 1e-8 if hasattr(samples, "mask") else None


def draw_probe_batch(buffer: RolloutBuffer, rows: int) -> Any:
    """
    A minibatch as ``train()`` would draw it, without moving the random state.

    :param buffer: a full rollout buffer
    :param rows: size of the minibatch
    """
    state = np.random.get_state()  # noqa: NPY002  # SB3's buffers draw from the global generator
    try:
        return next(iter(buffer.get(rows)))
    finally:
        np.random.set_state(state)  # noqa: NPY002


def dump_minibatch(samples: Any, folder: Path) -> str:
    """
    Keep a minibatch for whoever has to find out what broke.

    :param samples: a NamedTuple of a rollout buffer
    :param folder: where to
    :return: a sentence that says where, or why not
    """
    arrays: dict[str, Any] = {}

    def flatten(name: str, value: Any) -> None:
        if isinstance(value, th.Tensor):
            arrays[name] = value.detach().cpu().numpy()
        elif isinstance(value, Mapping):
            for key, child in value.items():
                flatten(f"{name}.{key}", child)
        elif isinstance(value, tuple):
            for key, child in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
                flatten(f"{name}.{key}" if name else str(key), child)

    flatten("", samples)
    path = folder / "collapse_minibatch.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, packed(arrays))
    except OSError as error:
        return f"Its minibatch could not be kept: {error}."
    return f"A minibatch is in {path}."
