"""The documentation site: it builds without a warning, asks no other host for anything, and has all public names."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from playwright.sync_api import sync_playwright

from helpers.processes import ROOT

ROOMS = sorted(path.parent.name for path in (ROOT / "sb3_stable_ppo").glob("*/__init__.py"))
PHONE, DESKTOP = 390, 1400


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "docs_site"))
    return importlib.import_module("hooks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without torch: pages of the reference are read from the sources."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow(seconds=60)
@pytest.mark.xdist_group("site")
def test_the_site_builds_without_a_warning_and_loads_nothing_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc(?:set)?="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*rel="(?:stylesheet|icon|preload|preconnect)"[^>]*>', text)
        assert not [each for each in loaded if "//" in each], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )[\"']?(https?:)?//", style.read_text()), style


@pytest.mark.slow(seconds=60)
@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("room", ROOMS)
def test_each_public_name_of_a_room_is_explained(room: str, site: Path) -> None:
    module = importlib.import_module(f"sb3_stable_ppo.{room}")
    page = (site / "api" / room / "index.html").read_text()
    explained = {found.rpartition(".")[2] for found in re.findall(r'id="(sb3_stable_ppo\.[\w.]+)"', page)}
    assert {name for name in module.__all__ if name not in explained} == set()


@pytest.mark.slow(seconds=60)
@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_no_page_is_wider_than_the_screen(width: int, site: Path) -> None:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        assert not os.environ.get("CI_NEEDS_CHROMIUM"), "there is no chromium, and CI is to have one"
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for name in (
            "",
            "troubleshooting",
            "fast_path",
            "tensorboard_tags",
            "architecture",
            "api/interventions",
            "guards",
        ):
            page.goto((site / name / "index.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        browser.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def test_each_room_has_a_page_in_the_navigation(hooks: ModuleType) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    config = hooks.on_config(SimpleNamespace(nav=nav))
    assert re.findall(r"api/(\w+)\.md", str(config.nav)) == ["index", *ROOMS]


def test_each_page_of_docs_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    text = str(nav)
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"'{page.name}'" not in text] == []


@pytest.mark.parametrize(
    ("link", "source", "uri", "repository", "expected"),
    [
        ("[a](guards.md#undo)", "docs/health.md", "health.md", None, "[a](guards.md#undo)"),
        ("[a](docs/guards.md#undo)", "README.md", "index.md", None, "[a](guards.md#undo)"),
        ("![a](docs/img/pong.png)", "README.md", "index.md", None, "![a](img/pong.png)"),
        ("[a](../README.md)", "docs/health.md", "health.md", None, "[a](index.md)"),
        ("[a](../benchmarks/pong.py)", "docs/health.md", "health.md", None, "a"),
        (
            "[`a`](LICENSE)",
            "README.md",
            "index.md",
            "https://host/me/it",
            "[`a`](https://host/me/it/blob/main/LICENSE)",
        ),
        ("[a](https://host/x.md)", "docs/health.md", "health.md", None, "[a](https://host/x.md)"),
        ('<img src="docs/img/a.gif">', "README.md", "index.md", None, '<img src="img/a.gif">'),
    ],
)
def test_links_lead_to_the_page_on_the_site_or_to_the_repository(
    hooks: ModuleType, link: str, source: str, uri: str, repository: str | None, expected: str
) -> None:
    assert hooks.redirected(link, PurePosixPath(source), uri, repository) == expected


def test_the_diagram_of_the_rooms_shows_each_room(hooks: ModuleType) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    (block,) = re.findall(r"^```mermaid.*?^```", text, re.MULTILINE | re.DOTALL)
    drawn = hooks.drawn(block)
    assert [room for room in ROOMS if f"<b>{room}/</b>" not in drawn] == []


def test_docstrings_in_sphinxs_words_become_markdown(hooks: ModuleType) -> None:  # noqa: ARG001  # for its path
    as_markdown = importlib.import_module("docstrings").as_markdown
    assert as_markdown("See :class:`~a.b.StepLR`, :meth:`of`.") == "See `StepLR`, `of`."
    assert (
        as_markdown("It adds.\n\n>>> add(1)  # doctest: +SKIP\n2\n\nEnd")
        == "It adds.\n\n```pycon\n>>> add(1)\n2\n```\n\nEnd"
    )
