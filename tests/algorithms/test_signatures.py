"""The arguments of our algorithms: upstream's, each typed, documented and handed on, and ``guards``."""

import inspect
import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import PPO

import sb3_stable_ppo
from helpers.envs import make_cartpole
from sb3_stable_ppo import (
    GuardConfig,
    StableMaskablePPO,
    StableMlpPolicy,
    StablePPO,
    StableRecurrentPPO,
)

PAIRS = {StablePPO: PPO, StableMaskablePPO: MaskablePPO, StableRecurrentPPO: RecurrentPPO}


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(cls.__init__, eval_str=True).parameters)
    del found["self"]
    return found


@pytest.mark.parametrize("ours", PAIRS)
def test_the_signature_is_upstreams_with_guards_at_the_end(ours: type) -> None:
    """A parameter that upstream adds, drops, moves or retypes makes this fail."""
    own, theirs = parameters_of(ours), parameters_of(PAIRS[ours])
    guards = own.pop("guards")
    assert guards.kind is inspect.Parameter.KEYWORD_ONLY
    assert guards.default == GuardConfig()
    if ours is not StablePPO:  # which take our four policies too, and choose their own form of them
        assert str(theirs["policy"].annotation) in str(own["policy"].annotation)
        own["policy"] = own["policy"].replace(annotation=theirs["policy"].annotation)
    assert list(own.values()) == list(theirs.values())


@pytest.mark.parametrize("ours", PAIRS)
def test_every_parameter_is_documented_in_the_order_of_the_signature(ours: type) -> None:
    assert re.findall(r":param (\w+):", ours.__doc__ or "") == list(parameters_of(ours))


@pytest.mark.parametrize("ours", PAIRS)
def test_every_argument_reaches_upstream_by_its_own_name(ours: type, monkeypatch: pytest.MonkeyPatch) -> None:
    received: dict[str, Any] = {}

    def init(_: Any, policy: Any, env: Any, **kwargs: Any) -> None:
        received.update(kwargs, policy=policy, env=env)

    monkeypatch.setattr(PAIRS[ours], "__init__", init)
    given: dict[str, Any] = {name: object() for name in parameters_of(ours)}
    model = ours(**given)
    assert model.guards is given.pop("guards")
    assert received == given


@pytest.mark.parametrize(("ours", "form"), [(StableMaskablePPO, "Maskable"), (StableRecurrentPPO, "Recurrent")])
@pytest.mark.parametrize("policy", [StableMlpPolicy, "StableMlpPolicy"])
def test_the_algorithm_chooses_its_own_form_of_a_policy_given_by_class_or_by_name(
    ours: type, form: str, policy: Any
) -> None:
    model = ours(
        policy,
        ActionMasker(gym.make("CartPole-v1"), lambda _: np.ones(2, bool)),
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        seed=0,
    )
    assert type(model.policy).__name__ == f"Stable{form}MlpPolicy"
    model.learn(8)


@pytest.mark.parametrize(
    ("ours", "name"), [(StableMaskablePPO, "StableMaskableMlpPolicy"), (StableRecurrentPPO, "StableRecurrentMlpPolicy")]
)
def test_the_forms_own_name_means_it_too(ours: type, name: str) -> None:
    assert type(ours(name, make_cartpole(), n_steps=8).policy) is getattr(sb3_stable_ppo, name)


@pytest.mark.parametrize(
    ("ours", "name", "hint"),
    [
        (StablePPO, "StableMLPPolicy", r"\(did you mean StableMlpPolicy\?\)"),
        (StableRecurrentPPO, "MlpPolicy", r"\(did you mean MlpLstmPolicy\?\)"),
        (StableMaskablePPO, "dense", ""),
    ],
)
def test_an_unknown_policy_is_answered_with_those_that_the_algorithm_knows(ours: Any, name: str, hint: str) -> None:
    choices = ", ".join(ours.policy_aliases)
    with pytest.raises(
        ValueError, match=f"^Unknown policy '{name}' ?{hint}. Choose one of {choices}, or give a class."
    ):
        ours(name, "CartPole-v1")


@pytest.mark.parametrize(
    ("ours", "stock"),
    [(StablePPO, "MlpPolicy"), (StableMaskablePPO, "MlpPolicy"), (StableRecurrentPPO, "MlpLstmPolicy")],
)
def test_an_option_of_ours_for_a_policy_of_sb3_is_answered_with_the_policies_that_take_it(
    ours: Any, stock: str
) -> None:
    with pytest.raises(
        ValueError, match=r"does not take norm_input in policy_kwargs; .* Choose one of StablePongPolicy, "
    ):
        ours(stock, "CartPole-v1", policy_kwargs={"norm_input": "running", "net_arch": [8]})


@pytest.mark.parametrize(
    ("ours", "policy", "others"),
    [
        (StablePPO, "StableRecurrentMlpPolicy", "RecurrentPPO"),
        (StablePPO, "StableMaskableMlpPolicy", "MaskablePPO"),
        (StableRecurrentPPO, "StableMaskableMlpPolicy", "MaskablePPO"),
        (StableMaskablePPO, "StableRecurrentMlpPolicy", "RecurrentPPO"),
    ],
)
def test_a_policy_of_another_algorithm_is_refused_with_the_choices(ours: type, policy: str, others: str) -> None:
    with pytest.raises(ValueError, match=f"^{policy} is a policy for Stable{others} and {others}. Choose one"):
        ours(getattr(sb3_stable_ppo, policy), "CartPole-v1")
