"""
The settings that the suite compares on Atari games other than Pong, by name: the game, whose numbers, and whose policy.

``Breakout, Pong's, ours`` is Breakout with our policy and the numbers that ``zoo_configs/stable_ppo.yml`` has for Pong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sb3_stable_ppo import KLAdaptiveLR, StepLR
from suite_settings import BATCH, SETTINGS as OF_PONG, SHIPPED, Settings

GAMES = ("Breakout", "SpaceInvaders", "Qbert")
BINS = 60
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours without norms": {"norm": "none", "norm_input": "none"},
    "ours without norm_input": {"norm_input": "none"},
    "ours without norm": {"norm": "none"},
    "ours without norm_input and with relu": {"norm_input": "none", "activation": "relu"},
    "ours without norm_input and in fp32": {"norm_input": "none", "precision": "fp32"},
    "ours without norm_input and with gain sqrt 2": {"norm_input": "none", "init_gain": 2**0.5},
}
"""What changes in ``policy_kwargs`` of the settings shipped for Pong."""
NUMBERS: dict[str, dict[str, Any]] = {
    "ours without norm_input and at half the rate": {"learning_rate": KLAdaptiveLR(1.25e-4, target=0.02)},
    "ours without norm_input and with half the KL": {"learning_rate": KLAdaptiveLR(2.5e-4, target=0.01)},
    "ours without norm_input and with ent_coef 0.01": {"ent_coef": 0.01},
}
"""LayerNorm moves the policy further in each step, and its entropy falls sooner: what changes in the numbers."""
SHARED = "ours without norm_input and with one hidden layer"
ATARI = BATCH.changed({"norm": "layer"}, learning_rate=StepLR(1e-4, step_size=444, gamma=0.9))
"""What ``zoo_configs/stable_ppo.yml`` had for Atari before it had Pong's numbers; the first steps of ten million."""


def of_a_game(settings: Settings, game: str) -> Settings:
    """The same settings, for another game."""
    return replace(settings, env_id=f"{game}NoFrameskip-v4", bins=BINS)


SETTINGS: dict[str, Settings] = {}
for _game in GAMES:
    SETTINGS[f"{_game}, zoo, stock"] = of_a_game(OF_PONG["stock"], _game)
    SETTINGS[f"{_game}, atari before, ours"] = of_a_game(ATARI, _game)
    SETTINGS[f"{_game}, Pong's, stock"] = of_a_game(OF_PONG["shipped, PPO, CnnPolicy"], _game)
    for _name, _changes in VARIANTS.items():
        SETTINGS[f"{_game}, Pong's, {_name}"] = of_a_game(SHIPPED.changed(_changes), _game)
    for _name, _numbers in NUMBERS.items():
        _ours = SHIPPED.changed({"norm_input": "none"}, **_numbers)
        SETTINGS[f"{_game}, Pong's, {_name}"] = of_a_game(_ours, _game)
    _one_layer = replace(SHIPPED.changed({"norm_input": "none"}), policy="StableCnnPolicy")
    SETTINGS[f"{_game}, Pong's, {SHARED}"] = of_a_game(_one_layer, _game)
