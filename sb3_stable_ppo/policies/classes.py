"""
Policies whose layers stay alive: for PPO and A2C, for MaskablePPO and for RecurrentPPO.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from sb3_stable_ppo.common.checks import did_you_mean
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.policies.bytes import BytesToExtractor
from sb3_stable_ppo.policies.extractors import StableCNN, StableCombinedExtractor
from sb3_stable_ppo.policies.mixin import StablePolicyMixin


class StableRecurrentMixin(RecurrentActorCriticPolicy):
    """sb3-contrib's recurrent policy, which forgets its LSTM's options when a policy is saved by itself."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(
            lstm_hidden_size=self.lstm_actor.hidden_size,
            n_lstm_layers=self.lstm_actor.num_layers,
            shared_lstm=self.shared_lstm,
            enable_critic_lstm=self.enable_critic_lstm,
            lstm_kwargs=self.lstm_kwargs,
        )
        return data


class PongPolicyMixin(StablePolicyMixin):
    """Three convolutions, then an actor and a critic of one hidden layer of 512 units each."""

    default_extractor = StableCNN
    default_extractor_kwargs: ClassVar[dict[str, Any]] = {"features_dim": None}
    default_norm = "batch"
    default_net_arch: ClassVar[dict[str, list[int]]] = {"pi": [512], "vf": [512]}


class CnnPolicyMixin(StablePolicyMixin):
    """Three convolutions and one trunk of 512 units, shared by actor and critic."""

    default_extractor = StableCNN
    default_extractor_kwargs: ClassVar[dict[str, Any]] = {"features_dim": 512}


class MlpPolicyMixin(StablePolicyMixin):
    """Two hidden layers of 64 units each for actor and critic, with norms."""

    default_net_arch: ClassVar[dict[str, list[int]]] = {"pi": [64, 64], "vf": [64, 64]}
    default_norm_hidden = None

    def _check_observations(self, observation_space: spaces.Space[Any]) -> None:
        if isinstance(observation_space, spaces.Dict):
            raise ValueError(f"An Mlp policy needs one vector, not {observation_space}. Use StableMultiInputPolicy.")


class MultiInputPolicyMixin(StablePolicyMixin):
    """Convolutions for each image of a Dict, then two hidden layers of 64 units each, with norms."""

    default_extractor = StableCombinedExtractor
    default_net_arch: ClassVar[dict[str, list[int]]] = {"pi": [64, 64], "vf": [64, 64]}
    default_norm_hidden = None


@public
class StablePongPolicy(PongPolicyMixin, ActorCriticPolicy, BytesToExtractor):
    """
    For Pong and its kind: three convolutions with LeakyReLU(0.01) and BatchNorm, then an actor and a critic of one
    hidden layer of 512 units each.

    In an update BatchNorm uses the statistics of the rollouts (``norm_statistics="running"``), so that the policy
    that learns is the one that acted. Options: :class:`StablePolicyMixin`.
    """


@public
class StableCnnPolicy(CnnPolicyMixin, ActorCriticPolicy, BytesToExtractor):
    """
    SB3's ``CnnPolicy`` with norms and LeakyReLU: one trunk of 512 units shared by actor and critic, as NatureCNN has,
    so that comparisons with stock are like for like. Options: :class:`StablePolicyMixin`.
    """


@public
class StableMlpPolicy(MlpPolicyMixin, ActorCriticPolicy):
    """
    SB3's ``MlpPolicy`` (64x64 each for actor and critic) with norms and LeakyReLU in the hidden layers.
    Options: :class:`StablePolicyMixin`.
    """


@public
class StableMultiInputPolicy(MultiInputPolicyMixin, ActorCriticPolicy):
    """
    SB3's ``MultiInputPolicy`` for Dict observations: our convolutions for each image, norms in the hidden layers.
    Options: :class:`StablePolicyMixin`.
    """


@public
class StableMaskablePongPolicy(PongPolicyMixin, MaskableActorCriticPolicy, BytesToExtractor):  # type: ignore[misc]  # see actor_critic
    """:class:`StablePongPolicy` for MaskablePPO."""


@public
class StableMaskableCnnPolicy(CnnPolicyMixin, MaskableActorCriticPolicy, BytesToExtractor):  # type: ignore[misc]  # see actor_critic
    """:class:`StableCnnPolicy` for MaskablePPO."""


@public
class StableMaskableMlpPolicy(MlpPolicyMixin, MaskableActorCriticPolicy):  # type: ignore[misc]  # see actor_critic
    """:class:`StableMlpPolicy` for MaskablePPO."""


@public
class StableMaskableMultiInputPolicy(MultiInputPolicyMixin, MaskableActorCriticPolicy):  # type: ignore[misc]  # see actor_critic
    """:class:`StableMultiInputPolicy` for MaskablePPO."""


@public
class StableRecurrentPongPolicy(PongPolicyMixin, StableRecurrentMixin, BytesToExtractor):
    """:class:`StablePongPolicy` with sb3-contrib's LSTMs between extractor and heads, for RecurrentPPO."""


@public
class StableRecurrentCnnPolicy(CnnPolicyMixin, StableRecurrentMixin, BytesToExtractor):
    """:class:`StableCnnPolicy` with LSTMs, for RecurrentPPO."""


@public
class StableRecurrentMlpPolicy(MlpPolicyMixin, StableRecurrentMixin):
    """:class:`StableMlpPolicy` with LSTMs, for RecurrentPPO."""


@public
class StableRecurrentMultiInputPolicy(MultiInputPolicyMixin, StableRecurrentMixin):
    """:class:`StableMultiInputPolicy` with LSTMs, for RecurrentPPO."""


KINDS: dict[type[BasePolicy], str] = {
    MaskableActorCriticPolicy: "MaskablePPO",
    RecurrentActorCriticPolicy: "RecurrentPPO",
    ActorCriticPolicy: "PPO",
}
"""What an algorithm's policies derive from; those of RecurrentPPO derive from PPO's too, so the order counts."""


def own_form(
    policy: Any, aliases: Mapping[str, type[BasePolicy]], policy_kwargs: Mapping[str, Any] | None = None
) -> Any:
    """
    The form of one of our policies that an algorithm needs.

    >>> from sb3_stable_ppo import StableMaskablePPO
    >>> own_form(StableMlpPolicy, StableMaskablePPO.policy_aliases).__name__
    'StableMaskableMlpPolicy'

    :param policy: what a user gave: a name, or any class
    :param aliases: the algorithm's ``policy_aliases``
    :param policy_kwargs: what the policy is to be built with
    :return: for :class:`StablePongPolicy` and its three kin the class that their name means there; for the name of
        such a class the class itself; all else as given
    :raises ValueError: for a name that the algorithm does not know, a policy of another algorithm, or one of SB3's
        with options of ours
    """
    found = _form(policy, aliases)
    stock = aliases[found] if isinstance(found, str) else found
    if getattr(stock, "__module__", "").startswith(("stable_baselines3.", "sb3_contrib.")):
        misplaced = [
            name for name in policy_kwargs or () if name in keywords_of(StablePolicyMixin) - keywords_of(stock)
        ]
        if misplaced:
            own = [name for name, cls in aliases.items() if issubclass(cls, StablePolicyMixin)]
            raise ValueError(
                f"{stock.__name__} is a policy of SB3 and does not take {', '.join(misplaced)} in policy_kwargs; only "
                f"this package's policies do. Choose one of {', '.join(own)}."
            )
    return found


def _form(policy: Any, aliases: Mapping[str, type[BasePolicy]]) -> Any:
    if policy in (StablePongPolicy, StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy):
        return aliases[policy.__name__]
    choices = f"Choose one of {', '.join(aliases)}, or give a class"
    if isinstance(policy, str) and policy not in aliases:
        forms = {cls.__name__: cls for cls in aliases.values() if issubclass(cls, StablePolicyMixin)}
        if policy in forms:
            return forms[policy]
        raise ValueError(f"Unknown policy {policy!r}{did_you_mean(policy, aliases)}. {choices}.")
    kind, wanted = _kind_of(policy), _kind_of(next(iter(aliases.values())))
    if kind is not None and kind is not wanted:
        raise ValueError(
            f"{policy.__name__} is a policy for Stable{KINDS[kind]} and {KINDS[kind]}. "
            f"{choices} that derives from {wanted.__name__}."
        )
    return policy


def _kind_of(policy: Any) -> Any:
    """The first of ``KINDS`` that a class derives from; None for any other class, and for names."""
    return next((kind for kind in KINDS if isinstance(policy, type) and issubclass(policy, kind)), None)
