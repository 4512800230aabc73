"""
From where on a figure is a fault, and which verdict each fault speaks for. The alarms of a run, the doctor and the
report all judge by this one table, so that they cannot contradict each other on the same run.
"""

from __future__ import annotations

INACTIVE_LAYER = 0.9
"""Share of a layer's units that are dead, linear or saturated."""
DARK = 0.1
"""The same seen from the other side: a layer with a smaller share of live units is dark."""
DORMANT_LAYER = 0.9
"""Share of a layer's units that are dormant (tau 0.025)."""
LOW_RANK = 2
"""srank of the features, at and below which all states look alike."""
FALLING_RANK = 0.25
"""srank of the features, as a share of its peak in the run."""
GROWING_NORM = 10.0
"""Norm of the features, as a multiple of what it was at first."""
ONE_ACTION = 0.02
"""Entropy of the mean policy over states, as a share of its maximum, below which there is one action."""
BALANCED = 0.5
"""The same, from where on the actions are balanced."""
CONSTANT_POLICY = 1e-9
"""Variance of the policy over states, below which it ignores the state. SB3's initial policies have 1e-7 to 1e-5."""
JUMPING_POLICY = 1.0
"""KL divergence of an update."""

ENOUGH_EPISODES = 20
"""Finished episodes; fewer tell nothing."""
FLOOR_MARGIN, UNSURE_FLOOR_MARGIN = 0.05, 0.25
"""By this share of its floor a return must stand above it; the second where nobody knows how far episodes differ."""
RESUMED = 0.1
"""A record that begins after this share of the steps is of a resumed run, whose floor nobody knows."""
EXPLAINED_VARIANCE = 0.5
"""Of the critic, from where on it knows what is coming."""

FEW_INPUTS = 8
"""Observations of fewer numbers bound the rank of all that is made from them: their rank tells nothing."""

VERDICTS = (
    "numerically broken",
    "linear network",
    "collapsed activations",
    "collapsed policy",
    "dying",
    "unsteady",
    "collapsed",
    "failed",
    "early training",
    "not ruled out",
    "unknown",
    "healthy",
)
"""All verdicts, the worst first: of several, the first is the verdict."""
GOOD_VERDICTS = ("early training", "healthy")
OPEN_VERDICTS = ("not ruled out", "unknown")
"""Too little was seen to say either."""

VERDICT_OF = {
    "nonfinite": "numerically broken",
    "linear_units": "linear network",
    "inactive_layer": "collapsed activations",
    "dead_units": "collapsed activations",
    "saturated_units": "collapsed activations",
    "dormant_layer": "collapsed activations",
    "dormant_units": "collapsed activations",
    "norm_of_constants": "collapsed activations",
    "low_rank": "collapsed activations",
    "one_action": "collapsed policy",
    "constant_policy": "collapsed policy",
    "falling_rank": "dying",
    "growing_norm": "dying",
    "huge_weights": "dying",
    "jumping_policy": "unsteady",
    "early": "early training",
    "weights_only": "not ruled out",
}
"""By the name of an alarm or of a doctor's finding, the worst first."""


def verdict_of_alarm(name: str, fault: str = "") -> str:
    """
    The verdict that a raised alarm speaks for.

    :param name: of the alarm
    :param fault: what most units of its layer are, as ``health.jsonl`` has it: an inactive layer of linear units is a
        linear network
    """
    return VERDICT_OF["linear_units" if (name, fault) == ("inactive_layer", "linear") else name]
