"""
What may make two runs of a seed differ, judged by what differs first. A hint names its evidence.
"""

from __future__ import annotations

from typing import Any

from sb3_stable_ppo.determinism import events as of
from sb3_stable_ppo.determinism.comparison import Comparison, Difference

ARITHMETIC = (of.VALUE, of.LOG_PROB, of.ACTION, of.GRADIENT, of.WEIGHT)
"""What torch computes from what is the same in both runs."""


def with_hints(comparison: Comparison, facts: dict[str, Any], other_facts: dict[str, Any]) -> Comparison:
    """
    The same comparison, with hints.

    :param comparison: of two runs
    :param facts: of the first
    :param other_facts: of the second
    """
    if comparison.first is None:
        return comparison
    hints = [
        *_machine(facts, other_facts),
        *_seed(comparison.first, facts),
        *_env(comparison.first, facts),
        *_arithmetic(comparison.first, facts),
        *_outside(comparison.first, facts),
    ]
    return comparison._replace(hints=tuple(hints))


def _machine(facts: dict[str, Any], other: dict[str, Any]) -> list[str]:
    different = [name for name in facts if facts[name] != other.get(name)]
    told = "; ".join(f"{name}: {facts[name]} and {other.get(name)}" for name in different)
    return [f"The two runs were not set up alike: {told}."] if different else []


def _seed(first: Difference, facts: dict[str, Any]) -> list[str]:
    if facts["seed"] is None:
        return [
            "The model has no seed, so that SB3 seeds neither the global random numbers nor the env: give it one "
            "(seed=0; --seed 0 on the command line)."
        ]
    if first.kind == of.RANDOM and first.phase == of.START:
        return [
            f"SB3 has seeded {first.name} with {facts['seed']}, and something has drawn from it, or seeded it anew, "
            "before the first step: the env's reset, a wrapper, or a callback at the start of training."
        ]
    if first.kind == of.RANDOM:
        return [
            f"All results before it are the same, and yet {first.name} has been drawn from another number of times: "
            "look for what draws by the clock, in a thread, or in the order of a set, in the env, its wrappers or the "
            "callbacks."
        ]
    if first.kind == of.WEIGHT and first.phase == of.START:
        return [
            "The weights differ before training, though the model has a seed: the network was built or changed with "
            "random numbers of another source, or in the order of a set."
        ]
    return []


def _env(first: Difference, facts: dict[str, Any]) -> list[str]:
    if first.kind not in (of.OBSERVATION, of.REWARD, of.DONE, of.MASK):
        return []
    name = facts["vec_env"]
    if first.kind == of.OBSERVATION and first.phase == of.START:
        return [
            f"The first observation differs, and it comes from reset(seed=...) of the envs in {name}: an env or a "
            "wrapper draws from a generator that this seed does not reach. Draw from self.np_random, after "
            "super().reset(seed=seed)."
        ]
    if first.size is not None and first.is_rounding:
        return [f"All actions before it are the same: the envs in {name} compute with rounding of their own."]
    return [
        f"All actions before it are the same: an env or a wrapper in {name} draws from a generator that "
        "reset(seed=...) does not reach (draw from self.np_random), or it goes by the clock, a thread or a server."
    ]


def _arithmetic(first: Difference, facts: dict[str, Any]) -> list[str]:
    if first.kind not in ARITHMETIC or first.phase == of.START:
        return []
    if first.kind == of.WEIGHT and first.step < 0:
        return []
    if not first.is_rounding:
        if first.kind == of.GRADIENT:
            return [
                "Weights and rollout are the same, and the gradient differs by more than rounding: the minibatch has "
                "other rows or is in another order, or a layer draws random numbers of its own source."
            ]
        return []
    if facts["tries_compiling"]:
        return [
            "What goes in is the same, and what comes out differs by rounding: compile: auto goes on with what was "
            "faster in the first update, which is not the same each time. Choose compile: true or false."
        ]
    if facts["device"].startswith("cuda"):
        if facts["flags"]["deterministic_algorithms"]:
            return []
        return [
            "What goes in is the same, and what comes out differs by rounding: kernels of CUDA add in no fixed order. "
            "torch.use_deterministic_algorithms(True), with CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment, "
            "chooses those that do, and is slower."
        ]
    threads = facts["threads"]["torch"]
    if threads > 1:
        return [
            f"What goes in is the same, and what comes out differs by rounding: the order of a sum depends on how "
            f"{threads} threads of torch share it. Try torch.set_num_threads(1), --num-threads 1 on the command line."
        ]
    return []


def _outside(first: Difference, facts: dict[str, Any]) -> list[str]:
    """What callbacks do."""
    is_changed_outside = first.kind == of.WEIGHT and first.phase == of.UPDATE and first.step < 0
    hints = []
    if is_changed_outside:
        hints.append(
            "The weights were the same after the optimizer's last step: something else has changed them, such as a "
            "callback, running statistics or a target network."
        )
    if facts["by_the_clock"] and (is_changed_outside or first.kind in (of.RANDOM, of.COURSE)):
        hints.append(
            f"These callbacks act by the clock: {', '.join(facts['by_the_clock'])}. With budget=None, and every= in "
            "place of every_minutes=, they act at fixed steps."
        )
    return hints
