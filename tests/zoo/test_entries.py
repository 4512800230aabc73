"""Which entry an env is trained with: exact names, atari, other versions, ours before rl_zoo3's, and nothing at all."""

import pytest

from sb3_stable_ppo.zoo.entries import File, find_in_one, find_nearest, no_entry

OURS = File("ours.yml", {"atari": {"a": 1}, "CartPole-v1": {"b": 1}, "Hopper-v3": {"c": 1}, "Taxi-v2": {"d": 1}})
THEIRS = File(
    "theirs.yml",
    {
        "default": {},
        "atari": {},
        "CartPole-v1": {},
        "Hopper-v4": {},
        "Hopper-v10": {},
        "Taxi-v2": {},
        "HopperHard-v9": {},
    },
)


@pytest.mark.parametrize(
    ("env_id", "is_atari", "source"),
    [
        ("CartPole-v1", False, "ours.yml, CartPole-v1"),
        ("Hopper-v4", False, "theirs.yml, Hopper-v4"),
        ("Hopper-v3", False, "ours.yml, Hopper-v3"),
        ("Hopper-v5", False, "theirs.yml, Hopper-v10"),
        ("Taxi-v4", False, "ours.yml, Taxi-v2"),
        ("CartPole-v0", False, "ours.yml, CartPole-v1"),
        ("PongNoFrameskip-v4", True, "ours.yml, atari"),
    ],
)
def test_exact_names_go_first_then_the_newest_version_then_ours(env_id: str, is_atari: bool, source: str) -> None:
    found = find_nearest(env_id, [OURS, THEIRS], is_atari)
    assert found is not None
    assert found.source == source
    assert found.entry is found.file.entries[found.name]


def test_a_default_of_rl_zoo3_is_nobodys_entry() -> None:
    assert find_nearest("FrozenLake-v1", [OURS, THEIRS], False) is None
    assert find_nearest("Hop-v1", [OURS, THEIRS], False) is None


@pytest.mark.parametrize(
    ("env_id", "is_atari", "name"),
    [
        ("CartPole-v1", False, "CartPole-v1"),
        ("Hopper-v5", False, "default"),
        ("PongNoFrameskip-v4", True, "atari"),
    ],
)
def test_in_a_users_file_rl_zoo3s_own_rule_holds(env_id: str, is_atari: bool, name: str) -> None:
    found = find_in_one(env_id, THEIRS, is_atari)
    assert found is not None
    assert found.name == name
    assert find_in_one("Hopper-v5", OURS, False) is None


def test_no_entry_names_the_nearest_of_all_files_and_the_cure() -> None:
    assert no_entry("Hoper-v4", [OURS, THEIRS]) == (
        "ours.yml has no entry for Hoper-v4, nor has theirs.yml. Nearest are Hopper-v4, Hopper-v3, Hopper-v10. "
        "Give a file that has one with --conf-file."
    )
    assert no_entry("x", [OURS]) == (
        "ours.yml has no entry for x. ours.yml has atari, CartPole-v1, Hopper-v3, Taxi-v2. "
        "Give a file that has one with --conf-file."
    )
    assert "e.yml has none." in no_entry("x", [File("e.yml", {})])
