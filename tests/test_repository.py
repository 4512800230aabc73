"""What stands around the package: CI, issue forms, hooks, citation, and the table of versions say what is true."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import sb3_stable_ppo
from helpers.processes import ROOT
from helpers.project import PYPROJECT, normalised, oldest, pins, pythons, requirements

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def workflow(path: Path) -> dict[str, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads the key ``on`` as true
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_whole_and_asks_for_no_more_rights_than_it_needs(path: Path) -> None:
    found = workflow(path)
    assert set(found) - {"concurrency"} == {"name", "on", "permissions", "jobs"}
    assert found["permissions"] == {"contents": "read"}
    for name, job in found["jobs"].items():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job), name
        assert set(job.get("permissions", {})) <= {"id-token"}, name
        needed = job.get("needs", [])
        assert set([needed] if isinstance(needed, str) else needed) <= set(found["jobs"]), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), name
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@[\w./]+", step.get("uses", "a/b@v1")), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_calls_is_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for step in steps(path) if "run" in step]
    assert commands
    for command in commands:
        assert set(re.findall(r"\bmake ([a-z]+)", command)) <= targets
        for script in re.findall(r"(?<!\S)(\.ci/\w+)", command):
            assert os.access(ROOT / script, os.X_OK), script


@pytest.mark.xdist_group("canary")
def test_pytest_xdist_knows_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """pytest 9.2.0 takes the name away, and each worker makes its own site, cluster and database."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@canary")


def test_ci_lints_tests_builds_the_docs_and_the_package() -> None:
    commands = " ; ".join(step.get("run", "") for step in steps(ROOT / ".github/workflows/ci.yml"))
    for command in ("make check", "make docs", ".ci/run", ".ci/versions", ".ci/package"):
        assert command in commands


def test_ci_tests_every_python_that_the_classifiers_name_and_the_oldest_dependencies() -> None:
    matrix = workflow(ROOT / ".github/workflows/ci.yml")["jobs"]["versions"]["strategy"]["matrix"]
    assert matrix["python-version"] == pythons()
    assert matrix["resolution"] == ["highest"]
    assert matrix["include"] == [{"python-version": pythons()[0], "resolution": "lowest-direct"}]
    assert PYPROJECT["project"]["requires-python"] == f">={pythons()[0]}"


def test_every_python_of_a_workflow_is_one_that_is_supported() -> None:
    for path in WORKFLOWS:
        named = re.findall(r'python-version: "?([\d.]+)', path.read_text())
        assert named
        assert set(named) <= set(pythons())


def test_a_release_is_published_without_a_password_and_only_if_the_tag_is_the_version() -> None:
    path = ROOT / ".github/workflows/release.yml"
    found = workflow(path)
    assert found["on"] == {"push": {"tags": ["v*"]}}
    publish = found["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert "secrets." not in path.read_text()
    assert not any("password" in step.get("with", {}) for step in publish["steps"])
    commands = [step["run"] for step in found["jobs"]["build"]["steps"] if "run" in step]
    assert "GITHUB_REF_NAME" in commands[0]
    assert "__version__" in commands[0]
    assert commands[1] == ".ci/package"


def test_the_package_script_checks_what_it_has_built() -> None:
    script = (ROOT / ".ci/package").read_text()
    for part in ("-m build", "twine check --strict", "pip install --quiet dist/*.whl", "sb3-stable-ppo --help"):
        assert part in script


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_takes(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels", "title"}
    identifiers = [element["id"] for element in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    for element in form["body"]:
        assert element["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert set(element) <= {"type", "id", "attributes", "validations"}
        assert element["attributes"]["label"]
    assert any(element.get("validations", {}).get("required") for element in form["body"])


def test_the_form_for_bugs_asks_for_a_diagnosis_and_versions() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    asked = {element["id"]: element["attributes"].get("description", "") for element in form["body"]}
    assert "sb3-stable-ppo doctor MODEL --json" in asked["doctor"]
    assert "get_system_info" in asked["versions"]


def test_the_hooks_run_what_make_check_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert entries == [".venv/bin/ruff format", ".venv/bin/ruff check --fix", "make check"]
    assert len({hook["id"] for hook in repository["hooks"]}) == len(entries)


def test_the_citation_has_version_and_licence_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert citation["version"] == sb3_stable_ppo.__version__
    assert citation["license"] == PYPROJECT["project"]["license"]


@pytest.mark.parametrize(
    "path", ["CONTRIBUTING.md", "SECURITY.md", "examples/README.md", ".github/PULL_REQUEST_TEMPLATE.md"]
)
def test_what_a_page_beside_the_docs_links_to_is_there(path: str) -> None:
    page = ROOT / path
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page of versions."""
    section = (ROOT / "docs/versions.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_versions_has_the_bounds_of_pyproject_and_the_pins_of_the_tests() -> None:
    extras = ("atari", "zoo", "mujoco", "envpool", "report", "postgres", "ray")
    bounds = {
        normalised(requirement.name): oldest(requirement)
        for requirement in requirements(*extras)
        if oldest(requirement) is not None
    }
    assert {normalised(name): (old, new) for name, old, new in rows("Dependencies")} == {
        name: (old, pins()[name]) for name, old in bounds.items()
    }


def test_the_table_of_tests_names_every_python_and_the_oldest_dependencies() -> None:
    tested = rows("What was tested")
    assert {row[0] for row in tested} <= set(pythons())
    assert any("oldest" in row[1] for row in tested)
