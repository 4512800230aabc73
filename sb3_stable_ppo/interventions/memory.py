"""
What interventions keep with a model, so that a run that is resumed goes on with it: plain tensors and numbers as
attributes of the model, which its zip holds. Stock SB3 loads such a zip and passes them on.
"""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_stable_ppo.common.tensors import copied

MEMORY = "intervention_memory"
"""Of the guards: an update that is undone puts it back too."""
INITIAL = "initial_weights"


def memory_of(model: Any, name: str) -> dict[str, Any]:
    """
    What an intervention remembers from one update to the next. Tensors in it may be replaced when an update is undone:
    look them up each time.

    :param model: in training
    :param name: of the intervention; each has its own
    """
    everything: dict[str, dict[str, Any]] = model.__dict__.setdefault(MEMORY, {})
    return everything.setdefault(name, {})


def initial_weights(model: Any, who: str, keep: bool = True) -> dict[str, th.Tensor]:
    """
    The weights that the model had before its first update, by their names in the policy, on the CPU.

    :param model: any
    :param who: asks for them, for the error
    :param keep: with the model, from now on
    :return: empty if they are those that the model has now, and are not kept
    :raises ValueError: of a model that was trained without keeping them
    """
    if INITIAL not in model.__dict__:
        need_first_update(model, who)
        if keep:
            keep_as_initial(model)
    found: dict[str, th.Tensor] = model.__dict__.get(INITIAL, {})
    return found


def need_first_update(model: Any, who: str) -> None:
    """
    :param model: any
    :param who: needs its initial weights, for the error
    :raises ValueError: of a model that was trained already
    """
    if model._n_updates > 0:
        raise ValueError(
            f"{who} needs the weights that the model began with, and this one has had {model._n_updates:,} updates and "
            f"was saved without them. Train with {who} from the first update on, or let the weights as they are now "
            f"take their place: {who}(initial='now')."
        )


def keep_as_initial(model: Any) -> None:
    """
    Let the weights as they are now be those that the model began with.

    :param model: any
    """
    model.__dict__[INITIAL] = {name: copied(p).cpu() for name, p in model.policy.named_parameters()}
