"""
Whether a model's zip is one that our algorithms can go on with.
"""

from __future__ import annotations

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.errors import UsageError

FORMAT = 1
"""
Of what our algorithms put into a zip beside SB3's content. It rises when a zip can no longer be understood by the code
before.
"""


def check_format(version: object) -> None:
    """
    :param version: that a zip has; zips of stock SB3, and ours from before there were versions, have none
    :raises UsageError: if it is newer than this code
    """
    if isinstance(version, int) and version > FORMAT:
        raise UsageError(
            f"The model was saved in format {version}, and this version of sb3-stable-ppo knows formats up to {FORMAT}"
            ": load it with the version that saved it, or a newer one."
        )


def check_policy(model: OnPolicyAlgorithm) -> None:
    """
    :param model: of PPO's kind, about to make its policy
    :raises UsageError: if it is a policy of DQN, SAC or the like, as that of their zips is, which PPO cannot train
    """
    policy: object = model.policy_class  # or a function that makes one
    if isinstance(policy, type) and issubclass(policy, BasePolicy) and not hasattr(policy, "evaluate_actions"):
        raise UsageError(
            f"{policy.__name__} is the policy of another algorithm, which {type(model).__name__} cannot "
            "train (it has no evaluate_actions). If it comes from a zip, load that with the algorithm that saved it."
        )
