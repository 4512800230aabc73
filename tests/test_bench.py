"""The bench command: what it measures is real, and what it prints is what was measured."""

import itertools
import json
from typing import Any

import pytest

from helpers.processes import run_python
from sb3_stable_ppo import bench
from sb3_stable_ppo.cli.app import main


def figures(speed: float) -> dict[str, float]:
    return {"steps_per_s": speed, "warm_up_s": 2.0, "peak_mib": 600.4}


def test_the_table_has_medians_ranges_and_the_ratio_to_stock() -> None:
    rows = [(bench.BASE, figures(speed)) for speed in (90, 100, 120)] + [("ours", figures(250))]
    assert bench.table(rows).splitlines()[2:] == [
        f"| {bench.BASE} | 100 (90 to 120) | 1.00 | 2 | 600 |",
        "| ours | 250 (250 to 250) | 2.50 | 2 | 600 |",
    ]
    assert bench.table([("ours", figures(250))]).splitlines()[2] == "| ours | 250 (250 to 250) | - | 2 | 600 |"


def test_each_variant_adds_to_the_one_before() -> None:
    steps = list(bench.VARIANTS.values())[3:8]
    for before, after in itertools.pairwise(steps):
        assert before.policy_kwargs.items() <= after.policy_kwargs.items()
        assert before.options.keys() <= after.options.keys()


def test_variants_take_turns_and_every_second_round_runs_backwards() -> None:
    order = [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c")]
    assert list(bench.turns(["a", "b", "c"], 3)) == order


@pytest.mark.slow
def test_bench_trains_each_variant_in_a_process_of_its_own(capsys: Any) -> None:
    assert main(["bench", "--n-envs", "1", "--steps", "128", "--variants", "7", "--seed", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    names = list(bench.VARIANTS)
    assert [(row["variant"], row["seed"]) for row in rows] == [(names[0], 3), (names[6], 3)]
    assert all(row["steps_per_s"] > 0 and row["peak_mib"] > 100 for row in rows)
    assert "PongNoFrameskip-v4, 1 envs" in err


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from sb3_stable_ppo.cli.app import main\n"
        "try:\n    main(['bench', '--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules, 'stable_baselines3' in sys.modules)"
    )
    assert run_python(code).splitlines()[-1] == "False False"


@pytest.mark.slow
def test_a_variant_that_fails_is_named_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match=r"^no such: KeyError: 'no such'$"):
        list(bench.measure([{"variant": "no such", "env_id": "", "n_envs": 1, "steps": 1, "seed": 0}]))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--env", "PongNoFrameskip-v5"], "is not the id of an Atari game (did you mean PongNoFrameskip-v4?)"),
        (["--n-envs", "0"], "'0' is not a whole number of at least 1"),
        (["--steps", "many"], "'many' is not a whole number"),
        (["--variants", "99"], "Unknown variant '99': choose from dummy, subproc, ale, norm, buffer"),
        (["--variants", "ale", "bf61"], "Unknown variant 'bf61' (did you mean bf16?): choose from dummy, "),
        (["--variants", "0"], "or a number from 1 to 9"),
    ],
)
def test_a_mistake_in_the_call_is_one_sentence_and_status_2(flags: list[str], complaint: str, capsys: Any) -> None:
    try:
        status = main(["bench", *flags])
    except SystemExit as stopped:  # argparse's own
        status = int(stopped.code or 0)
    assert status == 2
    assert complaint in capsys.readouterr().err


def test_list_shows_the_numbers_and_names_that_variants_takes(capsys: Any) -> None:
    assert main(["bench", "--list"]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [description for _, _, description in rows] == list(bench.VARIANTS)
    for number, name, description in rows:
        assert bench.find_variant(number) == bench.find_variant(name) == description


def test_variants_are_chosen_by_name_and_by_number(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(bench, "measure", lambda cells: ((cell, figures(1.0)) for cell in cells))
    assert main(["bench", "--variants", "bf16", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == ["dummy", "subproc", "bf16"]
    assert [row["variant"] for row in rows] == [bench.SHORT_NAMES[row["name"]] for row in rows]


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("subproc", lambda v: v.vec_env == "subproc"),
        ("norm", lambda v: v.policy_kwargs == {"norm": "batch"}),
        ("channels_last", lambda v: "memory_format" in v.policy_kwargs and "precision" not in v.policy_kwargs),
        ("bf16", lambda v: "precision" in v.policy_kwargs and "compile" not in v.policy_kwargs),
        ("compile", lambda v: "compile" in v.policy_kwargs and not hasattr(v.algorithm, "guards")),
    ],
)
def test_a_name_is_that_of_what_its_variant_adds(name: str, differs: Any) -> None:
    assert differs(bench.VARIANTS[bench.find_variant(name)])
