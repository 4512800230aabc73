"""ChurnReduction: a step of the optimizer leaves other states alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from sb3_stable_ppo.common.checks import number, whole_number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.common.tensors import copied
from sb3_stable_ppo.interventions.aside import aside, weights_in_place
from sb3_stable_ppo.interventions.churn import policy_churn, value_churn
from sb3_stable_ppo.interventions.minibatches import another_minibatch
from sb3_stable_ppo.interventions.rider import GradientRider
from sb3_stable_ppo.probes.outputs import parts_of

LOSSES = ("train/policy_gradient_loss", "train/policy_loss", "train/critic_loss", "train/loss")
"""What SB3 and sb3-contrib log of the loss that the term is weighed against; the first that is there."""


class Published(NamedTuple):
    """
    C-CHAIN's settings for a kind of output.

    :param target: the term's share, as a multiple of the loss
    :param start: the coefficient before it is adapted
    :param window: updates over which loss and term are averaged
    :param after: updates before it is adapted
    :param least: the coefficient is never less
    """

    target: float
    start: float
    window: int
    after: int
    least: float = 0.0


DISCRETE = Published(target=1e4, start=1.0, window=50, after=10, least=1.0)  # Procgen and Gym
CONTINUOUS = Published(target=0.05, start=100.0, window=100, after=50)  # DeepMind Control
VALUES = Published(target=0.01, start=50.0, window=50_000, after=10_000)  # double DQN on MinAtar


@public
class ChurnReduction(GradientRider):
    """
    Adds to the loss how far the last step of the optimizer has moved the outputs on another minibatch: C-CHAIN,
    "Mitigating Plasticity Loss in Continual Reinforcement Learning by Reducing Churn"
    (https://arxiv.org/abs/2506.00592).

    On-policy it is the policy that is held, by the cross-entropy ``-sum p_before * ln(p_now + 1e-8)``, with continuous
    actions by the mean of ``(mean_now - mean_before)**2``. Off-policy it is the values, by the mean of
    ``(Q_now - Q_before)**2``; the actors of SAC, TD3 and TQC are left alone. The coefficient follows the loss:
    ``target * mean |loss| / (mean term + 1e-8)``, running means over about ``window`` updates.

    There is no target for everything. Those published lie a factor of a million apart, and are the defaults here:

    ============================  ========  =======  =======  ========  =======================
    kind                          target    start    window   after     from
    ============================  ========  =======  =======  ========  =======================
    discrete actions, on-policy   10,000    1        50       10        Procgen, Gym (never < 1)
    continuous, on-policy         0.05      100      100      50        DeepMind Control
    values, off-policy            0.01      50       50,000   10,000    double DQN on MinAtar
    ============================  ========  =======  =======  ========  =======================

    A2C takes a single step for each rollout, and with PPO's target it learns nothing on CartPole: there ``target`` has
    to be given, and 1 is a beginning. On another domain look at ``interventions/ChurnReduction/coefficient`` and
    ``…/term`` in the log, and try targets ten times apart. The cross-entropy contains the policy's entropy, which has
    no gradient; that is why targets of discrete actions are so large.

    It costs two further forward passes and one backward pass for each minibatch, through the actor or the Q-networks,
    in eval mode and not compiled. The weights of one step ago are kept with the model: its zip grows by as much as they
    take. SB3 logs the loss as a mean over the update; its absolute value is what is averaged.

    >>> model.learn(100_000, callback=ChurnReduction())  # doctest: +SKIP

    :param target: of the term, as a multiple of the loss; 0: stock training; None: as in the table
    :param start: the coefficient in the first ``after`` updates; None: as in the table
    :param window: updates over which loss and term are averaged; None: as in the table
    :param after: updates before the coefficient follows the loss; a huge number keeps it at ``start``; None: as in the
        table
    :param verbose: SB3's verbosity
    :raises ValueError: for a number out of range; when training starts, for an algorithm whose loss cannot be reached,
        or a replay buffer that keeps no arrays
    """

    def __init__(
        self,
        target: float | None = None,
        start: float | None = None,
        window: int | None = None,
        after: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.target = None if target is None else number(target, "target")
        self.start = None if start is None else number(start, "start")
        self.window = None if window is None else whole_number(window, "window", 1)
        self.after = None if after is None else whole_number(after, "after")

    def check(self) -> None:
        super().check()
        if self.target is None and isinstance(self.model, OnPolicyAlgorithm) and not hasattr(self.model, "n_epochs"):
            raise ValueError(
                f"ChurnReduction has no published target for {type(self.model).__name__}, whose rollouts have a single "
                "step of the optimizer each, and that of PPO keeps it from learning. Begin with "
                "ChurnReduction(target=1.0)."
            )
        if isinstance(self.model, OffPolicyAlgorithm) and not hasattr(self.model.replay_buffer, "observations"):
            raise ValueError(
                f"ChurnReduction draws a minibatch of its own, and {type(self.model.replay_buffer).__name__} keeps no "
                "array of observations to draw from. Choose ReplayBuffer, DictReplayBuffer or a class derived from one."
            )

    def begin(self) -> None:
        is_off_policy = isinstance(self.model, OffPolicyAlgorithm)
        is_continuous = isinstance(self.model.action_space, spaces.Box)
        published = VALUES if is_off_policy else CONTINUOUS if is_continuous else DISCRETE
        given = {name: getattr(self, name) for name in ("target", "start", "window", "after")}
        self.settings = published._replace(**{name: value for name, value in given.items() if value is not None})
        self._is_off_policy = is_off_policy
        assert self.carrier is not None
        if self.memory.pop("at", None) != self.num_timesteps:  # it was not there all the time
            self.memory.pop("previous", None)
        self._network: nn.Module = self.carrier if is_off_policy else self.model.policy

    @property
    def is_on(self) -> bool:
        return self.settings.target > 0

    @property
    def coefficient(self) -> float:
        return float(self.memory.get("coefficient", self.settings.start))

    def before_update(self) -> None:
        super().before_update()
        if "previous" in self.memory:
            self._move_previous(self.model.device)

    def term(self) -> th.Tensor | None:
        memory, term = self.memory, None
        parameters = {name: parameter.detach() for name, parameter in self._network.named_parameters()}
        if "previous" in memory:
            memory["draws"] = memory.get("draws", 0) + 1
            generator = np.random.default_rng((self.model.seed or 0, memory["draws"]))
            term = self._churn(memory["previous"], *another_minibatch(self.model, generator))
        memory["previous"] = copied(parameters, memory.get("previous"))
        return term

    def _churn(self, previous: dict[str, th.Tensor], inputs: tuple[Any, ...], mask: th.Tensor | None) -> th.Tensor:
        """
        :param previous: the weights of one step ago
        :param inputs: another minibatch
        :param mask: its rows that are data; None: all
        """
        with aside(self._network):
            now = self._outputs(inputs)
            with weights_in_place(self._network, previous):
                before = self._outputs(inputs)
        if self._is_off_policy:
            return value_churn(now, before)
        rows = policy_churn(now, before)
        return (rows if mask is None else rows[mask]).mean()

    def _outputs(self, inputs: tuple[Any, ...]) -> Any:
        """The distribution's parts, or the values."""
        network: Any = self._network
        if self._is_off_policy:
            return network(*inputs)
        found = network.get_distribution(*inputs)
        return parts_of(found[0] if isinstance(found, tuple) else found)  # RecurrentPPO's comes with LSTM states

    def after_update(self) -> None:
        is_measured = self.memory.get("terms", 0) > 0
        super().after_update()
        if "previous" in self.memory:
            self.memory["at"] = self.num_timesteps
            self._move_previous("cpu")  # a zip that is saved on a GPU can then be loaded without one
        if is_measured:
            self._adapt()

    def _move_previous(self, device: th.device | str) -> None:
        memory = self.memory
        memory["previous"] = {name: tensor.to(device) for name, tensor in memory["previous"].items()}

    def _adapt(self) -> None:
        """The next update's coefficient."""
        memory, settings, logged = self.memory, self.settings, self.logger.name_to_value
        loss = next((abs(float(logged[name])) for name in LOSSES if name in logged), math.nan)
        if not (math.isfinite(loss) and math.isfinite(memory["term"])):
            return
        count = memory["measured"] = memory.get("measured", 0) + 1
        for name, value in (("mean_loss", loss), ("mean_term", memory["term"])):
            mean = memory.get(name, 0.0)
            memory[name] = mean + (value - mean) / min(count, settings.window)
        if count >= settings.after:
            found = settings.target * memory["mean_loss"] / (memory["mean_term"] + 1e-8)
            memory["coefficient"] = max(found, settings.least)
