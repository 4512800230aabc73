"""Every command and code block in the README and docs/ runs as it stands, but for fewer steps."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.forked import Done, run_code, run_command
from helpers.processes import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OURS = ".venv/bin/sb3-stable-ppo "
STEPS = 2048


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, code) of each fenced block in a language."""
    return [
        (page.name, code)
        for page in PAGES
        for code in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]


def shorter(code: str) -> str:
    """The same with runs of no more than 2048 steps, 1024 in Python and of Pong, and speed measured of one variant."""
    code = re.sub(r"\.learn\((\d[\d_]*)", lambda found: f".learn({min(int(found[1]), STEPS // 2)}", code)
    code = code.replace("--n-epochs 20", "--n-epochs 1")
    code = re.sub(r"doctor (?!.*--(rows|weights-only))", "doctor --rows 64 ", code)
    most = STEPS // 2 if "Pong" in code else STEPS
    code = re.sub(r"-n (\d+)", lambda found: f"-n {min(int(found[1]), most)}", code)
    code = re.sub(r"bench --steps \d+", "bench --n-envs 1 --steps 128", code)
    return re.sub(r"bench (?!.*--(list|variants))", "bench --steps 1024 --variants all ", code)


def identify(block: tuple[str, str]) -> str:
    return f"{block[0]}-{block[1].splitlines()[-1][:40]}"


def commands(page: Path) -> list[str]:
    """Those of a page, without make's."""
    lines = [line for name, code in blocks("bash") if name == page.name for line in code.splitlines()]
    return [command for line in lines if (command := line.partition(" #")[0].strip()) and not line.startswith("make ")]


def environment() -> dict[str, str]:
    """That of a terminal, in which pip compiles nothing: most of what is installed is never imported."""
    left_out = ("VIRTUAL_ENV", "PYTHONPATH")
    return {**{key: value for key, value in os.environ.items() if key not in left_out}, "PIP_COMPILE": "0"}


def run_in_a_terminal(command: str, folder: Path) -> Done:
    """As it is."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, env=environment())
    return Done(done.returncode, done.stdout + done.stderr)


def run_sooner(command: str, folder: Path) -> Done:
    """The same, of one of our commands without a new import of torch."""
    if command.startswith(OURS) and not re.search(r"[;|&$>]", command):
        return run_command(shlex.split(command.removeprefix(OURS)), folder, environment())
    return run_in_a_terminal(command, folder)


def run_all(commands: list[str], folder: Path, run: Callable[[str, Path], Done]) -> None:
    """One after the other, as somebody does who follows a page."""
    for command in commands:
        done = run(shorter(command), folder)
        assert done.status == 0, f"{command}\n{done.printed[-4000:]}"


def copy_of_the_tree(folder: Path) -> Path:
    """The files that git tracks or would, without .venv and what was built."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def fresh_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_tree(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def followed(fresh_copy: Path) -> Path:
    """A fresh copy in which somebody has followed the README; the new virtual environment is its own."""
    assert commands(README)[0] == "python3 -m venv .venv"
    run_all(
        [command.replace("python3 -m venv", f"{sys.executable} -m venv") for command in commands(README)],
        fresh_copy,
        run_in_a_terminal,
    )
    return fresh_copy


@pytest.fixture(scope="session")
def workplace(followed: Path) -> Path:
    """The same for the other pages, with all extras."""
    shutil.rmtree(followed / ".venv")
    (followed / ".venv").symlink_to(sys.prefix)
    return followed


@pytest.mark.slow(seconds=240)
@pytest.mark.xdist_group("documents")  # they share a run
def test_the_readmes_commands_run_one_after_the_other_in_a_fresh_copy(followed: Path) -> None:
    """Plain pip and python, without make."""
    assert (followed / "logs/stable_ppo/PongNoFrameskip-v4_1/PongNoFrameskip-v4.zip").is_file()
    assert (followed / "logs/stable_ppo/CartPole-v1_1/health.jsonl").is_file()


@pytest.mark.slow
@pytest.mark.xdist_group("documents")
@pytest.mark.parametrize("block", blocks("python"), ids=identify)
def test_a_python_block_runs(block: tuple[str, str], workplace: Path) -> None:
    done = run_code(shorter(block[1]), workplace, environment())
    assert done.status == 0, done.printed


@pytest.mark.slow(seconds=120)
@pytest.mark.xdist_group("documents")
@pytest.mark.parametrize("page", [page for page in PAGES[1:] if commands(page)], ids=lambda page: page.stem)
def test_a_pages_commands_run_one_after_the_other(page: Path, workplace: Path) -> None:
    """Those of a page that begin with the run of another one have it: pages are tried in the order of their names."""
    run_all(commands(page), workplace, run_sooner)


@pytest.mark.slow
def test_make_pong_trains_and_tells_how_the_layers_fared(tmp_path: Path) -> None:
    subprocess.run(["make", "setup", f"PYTHON={sys.executable}"], cwd=ROOT, check=True, capture_output=True)
    done = subprocess.run(
        ["make", "pong", f"STEPS={STEPS}", f"LOGS={tmp_path}", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install" not in done.stdout  # the second run skips the set-up
    printed = done.stdout.replace("\n", "")
    assert f"Results (finished): {tmp_path}/stable_ppo/PongNoFrameskip-v4_1" in printed
    for layer in ("conv1", "conv2", "conv3"):
        assert layer in printed


@pytest.mark.parametrize(("target", "steps"), [("pong", 500_000), ("demo", 20_000)])
def test_make_pong_ends_where_the_agent_wins_and_make_demo_soon(target: str, steps: int) -> None:
    printed = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"train --env PongNoFrameskip-v4 -n {steps} --stop-at-return 18" in printed


@pytest.mark.parametrize("block", blocks("yaml"), ids=identify)
def test_the_yaml_of_a_page_is_accepted(block: tuple[str, str]) -> None:
    from sb3_stable_ppo import StablePPO
    from sb3_stable_ppo.zoo.hyperparams import check_hyperparams, with_numbers

    for env, hyperparams in yaml.safe_load(block[1]).items():
        check_hyperparams(with_numbers(hyperparams), StablePPO, env)


def test_the_readmes_example_has_no_more_than_eight_lines() -> None:
    assert len([line for line in blocks("python")[0][1].splitlines() if line]) <= 8


def test_every_linked_file_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tables_of_choices_are_those_of_the_code() -> None:
    from sb3_stable_ppo.policies.blocks import ACTIVATIONS, NORMS

    page = (ROOT / "docs/policies.md").read_text()
    for word in (*NORMS, *ACTIVATIONS):
        assert f"`{word}`" in page
