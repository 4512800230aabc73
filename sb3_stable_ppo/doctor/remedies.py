"""
What helps, by what is wrong: the same advice whether a fault was seen in the weights or in what the network does.
"""

from __future__ import annotations

START_AGAIN = (
    "Start again with a lower learning rate (or fewer epochs) and StablePPO, which undoes updates that darken a layer."
)
REMEDIES = {
    "dead": f"{START_AGAIN} Dead units do not recover by themselves. A policy with norms (StableCnnPolicy for images, "
    "StableMlpPolicy) dies less easily. If you cannot start again: go on from an earlier checkpoint, or put the "
    "callback ReGraMa(), which makes dead units anew, into the list of callbacks.",
    "linear": f"{START_AGAIN} A norm before the activation (norm: layer) helps too.",
    "saturated": f"{START_AGAIN} Normalised observations (VecNormalize) or norm: layer help too.",
}
"""By what most units of a layer are."""
LOW_ENTROPY = (
    "Raise ent_coef, lower the learning rate or the clip range, or use StablePPO, which undoes updates that jump; "
    "go on from an earlier checkpoint."
)
IGNORES_THE_STATE = (
    "Its entropy is high already, so ent_coef does not help. Check that the observations differ where the right "
    "actions do and are not scaled away, and that the rewards tell good actions from bad ones; go on from an earlier "
    "checkpoint."
)
BROKEN = (
    "These weights cannot be repaired; go on from an earlier checkpoint with StablePPO, which skips steps and undoes "
    "updates that are not finite, and look for NaN in rewards and observations (VecCheckNan)."
)
DYING = (
    "Rank falls and norms grow long before the return falls: lower the learning rate or the number of epochs, use "
    "norm: layer, or hold the weights near their start with the callback L2Init()."
)
HUGE_WEIGHTS = (
    "Lower the learning rate, clip gradients (max_grad_norm), look for huge rewards, and bound the weights with the "
    "callback WeightClip() or L2Init()."
)
FLAT_RETURN = (
    'If it is no better than random play, the layers are not the cause: see "The return is flat at the floor" in the '
    "documentation (docs/troubleshooting.md)."
)
NO_STATISTICS = "Collect a rollout before the model is used, or train it with StablePPO and our policies, which do."
