"""
``diagnose``: whether a network lives, from what its layers and its policy do on some observations; what is wrong, how
one sees it, and what helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import maybe_transpose
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.common.layer_names import is_critic_layer
from sb3_stable_ppo.doctor.config_rules import check_config
from sb3_stable_ppo.doctor.findings import Diagnosis, Finding, conclude, finding
from sb3_stable_ppo.doctor.ranges import compare
from sb3_stable_ppo.doctor.remedies import BROKEN, DYING, FLAT_RETURN, IGNORES_THE_STATE, LOW_ENTROPY, REMEDIES
from sb3_stable_ppo.health.alarms import Alarms
from sb3_stable_ppo.health.figures import Figures, NotFinite, health_figures, inspect_policy
from sb3_stable_ppo.health.learning import (
    early_model,
    early_training,
    explained_variance_of,
    returns_of_health,
    unknown_floor,
)
from sb3_stable_ppo.health.thresholds import (
    BALANCED,
    CONSTANT_POLICY,
    DORMANT_LAYER,
    FALLING_RANK,
    FEW_INPUTS,
    GROWING_NORM,
    INACTIVE_LAYER,
    LOW_RANK,
    ONE_ACTION,
)
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.rows import rows_of

FEW_ROWS = 64
"""Fewer observations than this bound the rank of the features themselves."""


def diagnose(
    model: BaseAlgorithm | BasePolicy, observations: Any, history: Iterable[Figures] = (), action_masks: Any = None
) -> Diagnosis:
    """
    Tell whether a network lives. Nothing of it is changed, nothing sampled.

    >>> diagnosis = diagnose(model, observations)  # doctest: +SKIP
    >>> diagnosis.verdict, [finding.remedy for finding in diagnosis.findings]  # doctest: +SKIP

    :param model: any model of SB3 or sb3-contrib, or its policy; a model's configuration is checked too
    :param observations: a batch of different ones, as the env gives them: an array, or one by key, and images with
        their channels first or last; best 512 or more
    :param history: the lines of the run's ``health.jsonl`` (``RunReader(folder).health()``), which tell a network that
        is dying from one that always was as it is
    :param action_masks: of MaskablePPO, those that the env gave with the observations; None: its policy is judged as if
        all actions were allowed
    :raises ValueError: for fewer than two observations, ones of another shape, or masks that do not belong to them
    """
    policy = model if isinstance(model, BasePolicy) else model.policy
    batch = _checked(observations, policy)
    if action_masks is not None and not isinstance(policy, MaskableActorCriticPolicy):
        raise ValueError(f"action_masks are for MaskablePPO, and {type(policy).__name__} takes none: leave them out.")
    if action_masks is not None and len(action_masks) != rows_of(batch):
        raise ValueError(f"Give a row of action_masks for each of the {rows_of(batch)} observations.")
    findings = [] if isinstance(model, BasePolicy) else check_config(model, observations)
    probe = ActivationProbe(policy)
    try:
        reading = inspect_policy(policy, probe, obs_as_tensor(batch, policy.device), True, action_masks)
    except NotFinite as error:
        broken = finding("nonfinite", "critical", None, None, f"Not finite: {error}.", BROKEN)
        return conclude([*findings, broken], {"nonfinite": str(error)})
    figures = {**health_figures(policy, probe, reading, thorough=True), "norms": reading.drift, "nonfinite": None}
    figures["healthy_ranges"] = compare(policy, figures)
    steps = None if isinstance(model, BasePolicy) else model.num_timesteps
    past = [line for line in history if steps is None or line["step"] <= steps]
    describe = _described_once(probe)
    inside = [*_layers(figures, probe, describe), *_features(figures, describe)]
    findings += [*inside, *_past(past), *_acting(figures, steps, policy.action_space, inside)]
    if not (isinstance(model, BasePolicy) or any(found.severity == "critical" for found in findings)):
        findings += _early(model, past)
    return conclude(findings, figures)


def _checked(observations: Any, policy: BasePolicy) -> Any:
    space = policy.observation_space
    parts = observations if isinstance(observations, dict) else {"observation": observations}
    wanted = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    arrays = {key: np.asarray(value) for key, value in parts.items()}
    if arrays.keys() != wanted.keys():
        raise ValueError(f"The policy takes {sorted(wanted)}, not {sorted(arrays)}.")
    for key, array in arrays.items():
        if array.ndim == 4:  # images with their channels last, as predict takes them
            arrays[key] = array = maybe_transpose(array, wanted[key])
        shape = wanted[key].shape
        if array.ndim == 0 or (shape is not None and array.shape[1:] != shape):
            raise ValueError(f"{key}: the policy takes batches of shape (n, *{shape}), not {array.shape}.")
        if len(array) < 2:
            raise ValueError("One observation tells nothing of what depends on it: give 2 at least, better 512.")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(f"{key}: some of these observations are not finite; it is the env that is broken.")
    if all((array == array[0]).all() for array in arrays.values()):
        raise ValueError("These observations are all the same: give different ones, best 512 of them.")
    return arrays if isinstance(space, spaces.Dict) else arrays["observation"]


def _described_once(probe: ActivationProbe) -> Callable[[str], str]:
    """Words for a layer: with its place in the policy when it is first named, afterwards by its name."""
    told: set[str] = set()

    def describe(layer: str) -> str:
        if layer in told:
            return layer
        told.add(layer)
        return probe.describe(layer)

    return describe


def _layers(figures: Figures, probe: ActivationProbe, describe: Callable[[str], str]) -> Iterable[Finding]:
    """The first layer of each fault, in the order in which layers run; the others are counted."""
    if not figures["layers"]:
        evidence = "No layer with an activation was found: nothing is known of the network's inside."
        yield finding("no_layers", "note", None, None, evidence, "Judge by the policy and the returns.")
    elif probe.unread and hasattr(probe.policy, "mlp_extractor"):  # elsewhere the outputs are among them
        evidence = f"Not read, since no activation module stands behind: {', '.join(probe.unread)}."
        yield finding("unread_layers", "note", len(probe.unread), None, evidence, "Use modules, not functions.")
    dead_share: dict[str, float] = {}
    for fault, remedy in REMEDIES.items():
        found = [name for name, layer in figures["layers"].items() if layer["fault"] == fault]
        sick = [name for name in found if not figures["layers"][name]["fault_fraction"] < INACTIVE_LAYER]
        sick.sort(key=is_critic_layer)
        if sick:
            share = figures["layers"][sick[0]]["fault_fraction"]
            others = f" So are most in {', '.join(sick[1:])}." if sick[1:] else ""
            evidence = f"{share:.0%} of the units of {describe(sick[0])} are {fault}.{others}"
            if fault == "dead":
                dead_share[sick[0]] = share
            yield _of_layer(sick[0], f"{fault}_units", share, INACTIVE_LAYER, evidence, remedy)
    dormant = {name: layer["dormant_fraction"] for name, layer in figures["layers"].items()}
    first = _first([name for name, share in dormant.items() if not share < DORMANT_LAYER])
    if first is not None and not dead_share.get(first, -1.0) >= dormant[first]:  # dead units are dormant
        evidence = f"{dormant[first]:.0%} of the units of {describe(first)} are dormant (tau 0.025)."
        yield _of_layer(first, "dormant_units", dormant[first], DORMANT_LAYER, evidence, REMEDIES["dead"])


def _first(layers: list[str]) -> str | None:
    """The first, but one that the actions are made from before one that is the critic's alone."""
    return min(layers, key=is_critic_layer, default=None)


def _of_layer(layer: str, name: str, value: float, threshold: float, evidence: str, remedy: str) -> Finding:
    """Critical, but for a critic's own layer: a critic is flat where the rewards have told it nothing yet."""
    if is_critic_layer(layer):
        evidence = f"{evidence} It is the critic's own: the values are flat, the actions do not depend on it."
        return finding(name, "warning", value, threshold, evidence, "Look at explained_variance and the rewards.")
    return finding(name, "critical", value, threshold, evidence, remedy)


def _features(figures: Figures, describe: Callable[[str], str]) -> Iterable[Finding]:
    features = figures["features"]
    if (
        features
        and features["rows"] >= FEW_ROWS
        and features["inputs"] >= FEW_INPUTS
        and features["srank"] <= min(LOW_RANK, features["width"] - 1)
    ):
        evidence = (
            f"The features of {describe(features['layer'])} have an srank of {features['srank']} of "
            f"{features['width']} on {features['rows']} observations: all look alike to it."
        )
        yield finding("low_rank", "critical", features["srank"], LOW_RANK, evidence, REMEDIES["dead"])


def _acting(
    figures: Figures, steps: int | None, action_space: spaces.Space[Any], inside: Iterable[Finding]
) -> Iterable[Finding]:
    """What the policy does; its remedy is that of what is wrong with the layers before it, if anything is."""
    if isinstance(action_space, spaces.Discrete) and action_space.n < 2:
        return
    acting = figures["policy"]
    balance, variance, entropy = acting.get("action_balance"), acting["policy_variance"], acting.get("entropy_share")
    cause = next((found for found in inside if found.severity == "critical"), None)
    if balance is not None and balance < ONE_ACTION:
        evidence = f"One action is all but certain in every state: the balance of the actions is {balance:.3f} of 1."
        if entropy is not None:
            remedy = cause.remedy if cause else LOW_ENTROPY
            yield finding("one_action", "critical", balance, ONE_ACTION, evidence, remedy)
        else:  # greedy in values that have hardly been learnt yet, DQN chooses so too
            yield finding("one_action", "warning", balance, ONE_ACTION, evidence, "Train on, then look again.")
    elif variance < CONSTANT_POLICY and steps != 0:
        does = "does the same in every state"
        if entropy is not None and not entropy < BALANCED:
            does = "draws its actions at random, with the same odds in every state"
        evidence = f"The policy {does}: its variance over states is {variance:.1e}."
        if entropy is not None:
            evidence += f" Its entropy is {entropy:.0%} of its maximum."
        remedy = LOW_ENTROPY if entropy is None or entropy < BALANCED else IGNORES_THE_STATE
        remedy = cause.remedy if cause else remedy
        yield finding("constant_policy", "critical", variance, CONSTANT_POLICY, evidence, remedy)


def _past(history: Iterable[Figures]) -> Iterable[Finding]:
    """The alarms that the run's own figures leave raised, of those that only a history can raise."""
    alarms = Alarms()
    for line in history:
        alarms.update(int(line["step"]), line)
    for name, threshold in (("falling_rank", FALLING_RANK), ("growing_norm", GROWING_NORM)):
        if name in alarms.active:
            event = alarms.active[name]
            evidence = f"{event.text[0].upper()}{event.text[1:]}."
            yield finding(name, "critical", event.value, threshold, evidence, DYING)


def _early(model: BaseAlgorithm, history: list[Figures]) -> Iterable[Finding]:
    returns = returns_of_health(history) if history else None
    if returns is not None:
        evidence = early_training(returns, explained_variance_of(history))
    else:
        evidence = early_model(len(model.ep_info_buffer or ()))
        told = unknown_floor(model) if evidence is None else None
        if told is not None:
            yield finding("unknown_floor", "note", None, None, told, FLAT_RETURN)
    if evidence is not None:
        yield finding("early", "note", None, None, evidence, "Train on; the layers live.")
