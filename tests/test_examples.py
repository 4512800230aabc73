"""Every example runs as it stands, for fewer steps; each is documented, and shows what it says."""

from __future__ import annotations

import ast
import importlib.machinery
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.processes import ROOT

pytestmark = pytest.mark.slow(seconds=1)

EXAMPLES = ROOT / "examples"
SHORT: dict[str, list[str]] = {
    "cartpole": ["--steps", "256"],
    "custom_extractor": ["--steps", "1024"],
    "diagnose_my_model": ["--steps", "1024"],
    "mujoco_hopper": ["--steps", "2048"],
    "pong": ["--steps", "256", "--n-envs", "2"],
    "see_it_collapse": ["--steps", "512", "--n-envs", "2", "--no-open"],
}
"""How a test calls each: one update or two."""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, name: str, *flags: str) -> dict[str, Any]:
    """Run an example in this process as ``python examples/<name>.py`` does, without a new import of torch."""
    script = str(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, *flags])
    return runpy.run_path(script, run_name="__main__")


def test_every_example_is_run_by_a_test() -> None:
    assert set(SHORT) == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", sorted(SHORT))
def test_no_example_hides_a_package_of_its_name(name: str) -> None:
    """``python examples/NAME.py`` puts the folder first on the path, where others import NAME from."""
    assert (
        importlib.machinery.PathFinder.find_spec(name, [path for path in sys.path if "site-packages" in path]) is None
    )


@pytest.mark.parametrize("name", sorted(SHORT))
def test_an_example_says_how_to_call_it_how_long_it_takes_and_what_it_needs(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or ""
    assert f"python examples/{name}.py" in docstring
    assert "Needs ``sb3-stable-ppo" in docstring
    assert any(word in docstring for word in ("second", "minute", "hour"))
    assert len(docstring.splitlines()) <= 20


def test_the_list_of_examples_is_complete() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]:
        assert f"[{path.name}]({path.name})" in listed


@pytest.mark.slow(seconds=30)
def test_see_it_collapse_prints_live_units_and_writes_the_film_of_both(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import imageio.v3 as imageio

    call(monkeypatch, "see_it_collapse", *SHORT["see_it_collapse"], "--gif", "both.gif")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith(("256", "512"))]
    assert [len(row) for row in rows] == [7, 7]
    for row in rows:
        assert [count.partition("/")[2] for count in row[1:]] == ["32", "64", "64"] * 2
    both = imageio.imread(elsewhere / "both.gif", index=None, mode="RGB")
    one = imageio.imread(elsewhere / "logs/see_it_collapse/StablePPO/timeline.gif", index=None, mode="RGB")
    title = 22
    assert both.shape == (len(one), 2 * (one.shape[1] + title), *one.shape[2:])
    assert len(one) == 4  # two for each update


def test_cartpole_tells_return_and_verdict_and_leaves_a_model(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "cartpole", *SHORT["cartpole"])
    printed = capsys.readouterr().out
    assert "Mean return of 20 fresh episodes" in printed
    assert "Verdict on the network: " in printed
    assert (elsewhere / "logs/cartpole/model.zip").is_file()
    assert (elsewhere / "logs/cartpole/health.jsonl").is_file()


def test_cartpole_has_the_settings_of_the_configuration() -> None:
    entry = _entry("CartPole-v1")
    calls = _arguments_of_stable_ppo("cartpole")
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda"):
        assert calls[name] == entry[name], name
    assert calls["policy_kwargs"] == entry["policy_kwargs"]


@pytest.mark.slow(seconds=10)
def test_pong_leaves_a_run_that_a_report_can_show(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, "pong", *SHORT["pong"])
    folder = elsewhere / "logs/pong"
    for name in ("PongNoFrameskip-v4.zip", "health.jsonl", "progress.csv", "snapshots"):
        assert (folder / name).exists(), name


def test_pong_has_the_settings_of_make_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_stable_ppo.schedules.learning_rate import make_schedule
    from sb3_stable_ppo.zoo.hyperparams import with_numbers

    entry = _entry("PongNoFrameskip-v4")
    example = runpy.run_path(str(EXAMPLES / "pong.py"))
    made: dict[str, Any] = {}

    def note(policy: str, env: Any, **options: Any) -> None:
        made.update(options, policy=policy, n_envs=env.num_envs)
        env.close()

    monkeypatch.setitem(example["make_model"].__globals__, "StablePPO", note)
    example["make_model"](entry["n_envs"], 1)
    schedule = make_schedule(**with_numbers(entry)["learning_rate"])
    assert repr(made["learning_rate"]) == repr(schedule)
    for name in ("policy", "n_envs", "n_steps", "batch_size", "n_epochs", "clip_range", "vf_coef", "ent_coef"):
        assert made[name] == entry[name], name
    assert made["policy_kwargs"] == entry["policy_kwargs"]
    assert made["rollout_buffer_kwargs"] == entry["rollout_buffer_kwargs"]


def test_diagnose_my_model_finds_the_model_sick_that_it_has_trained_to_be(
    elsewhere: Path,  # noqa: ARG001  # where it runs
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(monkeypatch, "diagnose_my_model", *SHORT["diagnose_my_model"])
    printed = capsys.readouterr().out
    assert "critical: " in printed
    assert "what helps: " in printed
    assert "of 64 units are live" in printed


def test_diagnose_my_model_takes_a_zip_of_ones_own_and_names_one_that_is_not_there(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stable_baselines3 import PPO

    PPO("MlpPolicy", "CartPole-v1", seed=0).save(elsewhere / "mine.zip")
    call(monkeypatch, "diagnose_my_model", "mine.zip")
    assert capsys.readouterr().out.startswith("mine.zip: ")
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "diagnose_my_model", "other.zip")
    assert "other.zip does not exist" in capsys.readouterr().err


def test_custom_extractor_has_its_own_layers_read(
    elsewhere: Path,  # noqa: ARG001  # where it runs
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(monkeypatch, "custom_extractor", *SHORT["custom_extractor"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "of 64 units are live" in line]
    assert len(lines) == 5  # the extractor's first layer and two blocks; a hidden layer each of actor and critic


@pytest.mark.slow(seconds=15)
def test_mujoco_needs_no_statistics_beside_the_zip(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco")
    call(monkeypatch, "mujoco_hopper", *SHORT["mujoco_hopper"])
    assert "Mean return of 10 fresh episodes" in capsys.readouterr().out
    assert (elsewhere / "logs/mujoco/Hopper-v5.zip").is_file()
    assert not list(elsewhere.rglob("*.pkl"))


def test_the_notebook_runs_from_top_to_bottom(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Jupyter: its code cells, one after the other in one namespace, with fewer steps."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = [cell for cell in _notebook()["cells"] if cell["cell_type"] == "code"]
    parameters = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert parameters == cells[:1]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
        if cell in parameters:
            assert "STEPS" in namespace
            namespace["STEPS"] = 2048
    assert len(namespace["axis"].collections) + len(namespace["axis"].lines) == 2
    assert list(elsewhere.rglob("*.monitor.csv"))


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = _notebook()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | (
            {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        )
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def _notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / "quickstart.ipynb").read_text())
    return found


def _entry(env_id: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "zoo_configs/stable_ppo.yml").read_text())[env_id]
    return found


def _arguments_of_stable_ppo(name: str) -> dict[str, Any]:
    """The literal keywords with which an example makes its model."""
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    (made,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "StablePPO"
    )
    found = {}
    for keyword in made.keywords:
        try:
            found[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except ValueError:
            continue
    return found
