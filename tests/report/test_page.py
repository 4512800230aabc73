"""The page in a real browser: Debian's Chromium, headless, driven by Playwright."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from helpers.run_folders import health_line, layer, write_progress, write_run
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunWriter

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        assert not os.environ.get("CI_NEEDS_CHROMIUM"), "there is no chromium, and CI is to have one"
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


class Opened:
    """A page, and all that it said and asked for."""

    def __init__(
        self, browser: Browser, path: Path, width: int = 1300, scheme: Any = "light", before: str = ""
    ) -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.add_init_script(before)
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def scroll_through(self) -> None:
        """Charts are drawn when they come into sight."""
        while self.page.locator(".plot:not(.js-plotly-plot)").count():
            self.page.locator(".plot:not(.js-plotly-plot)").first.scroll_into_view_if_needed()
            self.page.wait_for_timeout(50)

    def until(self, condition: str) -> None:
        """Playwright's own way to wait evaluates a string, which the page's policy forbids."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"never: {condition}"
            self.page.wait_for_timeout(50)

    def source(self) -> str:
        return str(self.page.locator("[data-layer='0'] img").first.get_attribute("src"))


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose layers go dark half way, as a page."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "dying", snapshots=20, dies_at=20)
    page = folder / "report.html"
    page.write_text(render([read_run(folder)]))
    return page


def test_the_page_draws_all_charts_says_nothing_and_asks_for_nothing(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying)
    opened.scroll_through()
    assert opened.page.locator(".js-plotly-plot .main-svg").count() > 15
    assert opened.said == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [dying.as_uri()]
    assert opened.page.locator(".verdict").inner_text().startswith("collapsed activations. 100% of the units of conv1")


def test_the_slider_changes_the_picture_and_a_dark_layer_is_unmistakable(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying)
    page = opened.page
    assert page.locator(".dark:visible").count() == 3
    dark = opened.source()
    page.locator("#slider").focus()
    page.keyboard.press("Home")
    assert page.locator("#step").inner_text() == "step 1,024"
    assert opened.source() != dark
    assert page.locator(".dark:visible").count() == 0
    assert page.locator(".count").first.inner_text() == "29 of 32 channels live"  # as health.jsonl has it
    assert page.locator(".score").inner_text() == "return -19.99"
    first = opened.source()
    page.keyboard.press("ArrowRight")
    assert page.locator("#step").inner_text() == "step 3,072"
    assert opened.source() != first
    assert page.locator("[data-layer='0'] img").evaluate("image => image.complete && image.naturalWidth") == 127


def test_play_runs_to_the_end_and_stops(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying)
    page = opened.page
    play, slider = page.locator("#play"), page.locator("#slider")
    play.click()  # from the end it begins anew
    assert play.inner_text() == "Pause"
    opened.until("document.getElementById('slider').value > 1")
    play.click()
    at = slider.input_value()
    assert play.inner_text() == "Play"
    page.wait_for_timeout(1500)
    assert slider.input_value() == at
    slider.evaluate("slider => { slider.value = 18; slider.dispatchEvent(new Event('input')); }")
    play.click()
    opened.until("document.getElementById('play').textContent === 'Play'")
    assert slider.input_value() == "19"


def test_dark_mode_follows_the_system(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying)
    page = opened.page
    opened.scroll_through()
    read = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(read)
    page.emulate_media(color_scheme="dark")
    opened.until(f"{read} !== {light[1]!r}")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(read)
    assert light == ("rgb(250, 250, 250)", "rgb(28, 28, 34)")
    assert dark == ("rgb(19, 19, 24)", "rgb(236, 236, 241)")


def test_a_browser_that_cannot_unpack_the_charts_says_so_and_shows_the_rest(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying, before="delete window.DecompressionStream")
    opened.page.locator(".plot").first.scroll_into_view_if_needed()
    opened.until("!document.getElementById('no-charts').hidden")
    assert opened.page.locator("#no-charts").inner_text().startswith("The charts are missing. This browser cannot")
    assert opened.page.locator(".js-plotly-plot").count() == 0
    assert opened.page.locator(".dark:visible").count() == 3
    assert not Opened(browser, dying).page.locator("#no-charts").is_visible()


def test_nothing_covers_a_chart_and_hovering_still_tells(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying, width=1280)
    opened.scroll_through()
    chart = opened.page.locator(".plot").first
    chart.hover()
    opened.until("document.querySelector('.plot .hoverlayer .hovertext') !== null")
    assert opened.page.locator(".modebar-btn").count() == 0


def test_all_charts_are_on_paper_without_scrolling(browser: Browser, dying: Path) -> None:
    opened = Opened(browser, dying)
    opened.until("document.querySelector('.js-plotly-plot') !== null")
    opened.page.wait_for_timeout(500)
    empty = "[...document.querySelectorAll('.plot')].filter((plot) => !plot.querySelector('.trace, .hm')).length"
    assert opened.page.evaluate(empty) > 5
    assert opened.page.evaluate(f"dispatchEvent(new Event('beforeprint')), {empty}") == 0, "printing waits for nothing"
    assert opened.said == []


def test_all_time_axes_show_the_run_and_no_more(browser: Browser, tmp_path: Path) -> None:
    steps = np.arange(1000, 101_000, 1000)
    write_progress(tmp_path / "run", {"time/total_timesteps": steps, "train/approx_kl": np.sqrt(steps) / 1e5})
    for step in (40_000, 60_000, 100_000):
        RunWriter(tmp_path / "run").health(step, health_line())
    path = tmp_path / "page.html"
    path.write_text(render([read_run(tmp_path / "run")]))
    opened = Opened(browser, path)
    opened.scroll_through()
    plots = "[...document.querySelectorAll('.js-plotly-plot')]"
    opened.until(f"{plots}.every((plot) => plot.calcdata)")
    assert opened.page.evaluate(f"{plots}.map((plot) => plot._fullLayout.xaxis.range)") == [[0, 100_000]] * 6
    maps = f"{plots}.map((plot) => plot.calcdata[0][0]).filter((drawn) => drawn.z)"
    assert opened.page.evaluate(f"{maps}.map((drawn) => [...drawn.x])") == [[0, 50_000, 80_000, 100_000]] * 3


@pytest.mark.parametrize("width", [360, 820, 2400])
def test_nothing_is_wider_than_the_screen(browser: Browser, dying: Path, width: int) -> None:
    opened = Opened(browser, dying, width)
    opened.scroll_through()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_two_runs_share_the_slider_and_the_axes(browser: Browser, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "long"), write_run(tmp_path / "short", rollouts=20, snapshots=4, dies_at=10)]
    path = tmp_path / "comparison.html"
    path.write_text(render([read_run(folder) for folder in runs]))
    opened = Opened(browser, path)
    page = opened.page
    opened.scroll_through()
    assert opened.said == []
    assert page.locator(".timeline").count() == 2
    assert [text.split(":")[0] for text in page.locator(".verdict").all_inner_texts()] == ["long", "short"]
    assert page.locator(".timeline").nth(1).locator(".dark:visible").count() == 3
    assert page.locator(".timeline").nth(0).locator(".dark:visible").count() == 0
    names = page.locator(".legend span").all_inner_texts()
    assert [name.strip() for name in names] == ["long", "short"]
    rows = [row.locator("td").all_inner_texts() for row in page.locator(".summary tbody tr").all()]
    assert [(row[0], row[3], row[-1]) for row in rows] == [
        ("long", "40,960", "healthy"),
        ("short", "20,480", "collapsed activations"),
    ]


SCRIPT = "<script>window.pwned = 1</script>"
IMAGE = '<img src=x onerror="window.pwned = 1">'


def test_hostile_text_is_shown_and_not_run(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / IMAGE.replace("/", "")
    hostile = f"</script>{SCRIPT}{IMAGE}"
    write_run(folder, env=hostile, algo=hostile, started=hostile, versions={hostile: hostile}, status=hostile)
    (folder / "env").mkdir()
    (folder / "env" / "config.yml").write_text(yaml.safe_dump({hostile: {hostile: [hostile]}}))
    write_progress(folder, {"time/total_timesteps": [1, 2], "train/loss": [1, 2], f"train/{hostile}": [1, 2]})
    writer = RunWriter(folder)
    raised = {"name": "low_rank", "raised": True, "step": 2, "where": hostile, "text": hostile}
    writer.health(50_000, health_line(layers={hostile: layer(1, 2, srank=1)}, events=[raised]))
    writer.snapshot(60_000, {hostile.replace("/", "_"): np.ones((2, 3, 3))})
    (folder / "evaluations.npz").write_text(hostile)
    for runs in ([folder], [folder, folder]):
        path = tmp_path / "page.html"
        path.write_text(render([read_run(run) for run in runs]))
        opened = Opened(browser, path)
        opened.scroll_through()
        opened.page.wait_for_timeout(200)
        assert opened.page.evaluate("window.pwned") is None
        assert opened.said == []
        assert hostile in opened.page.locator("header").inner_text()
        assert opened.page.locator("img[src=x]").count() == 0
        assert len(re.findall("<script", path.read_text().split('<script id="data"')[0])) == 0


def test_a_run_that_has_only_begun_has_a_page_that_says_so(browser: Browser, tmp_path: Path) -> None:
    RunWriter(tmp_path / "run").describe(status="running", algo="ppo", env="CartPole-v1", pid=1, host="elsewhere")
    path = tmp_path / "page.html"
    path.write_text(render([read_run(tmp_path / "run")]))
    opened = Opened(browser, path)
    assert opened.said == []
    text = opened.page.locator("body").inner_text()
    assert "The run goes on, or was killed on another machine" in text
    assert "No curves" in text
    assert "unknown." in text
