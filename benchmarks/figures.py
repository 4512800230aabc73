"""
Every table and plot of learning in docs/, from the lines that suite.py has recorded: no number is typed by hand.

    python benchmarks/figures.py           # writes them into the pages, between <!-- figures: NAME --> and its end
    python benchmarks/figures.py --check   # changes nothing; exit status 1 if a page says something else
    python benchmarks/figures.py --table   # prints them

Over seeds stands the interquartile mean with its interval (intervals.py); below three seeds the mean, and no interval.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from command import benchmark_parser, markdown, parsed
from continual import screening_table
from game_tables import games_table
from intervals import interval, shown
from make_pong import table as make_pong_table
from million_steps import million_steps_table, shipped_table
from off_policy import SETTINGS as OFF_POLICY, table_of as off_policy_table
from ranges_of_runs import ranges_table, runs_table as healthy_runs_table
from sb3_stable_ppo.health.healthy_ranges import IMAGES, VECTORS
from suite import GAME, mean_return, runs_of, table
from suite_settings import CONTROLS, SHIPPED_NAME
from suite_watch import MARK
from vector_tables import final, mean_over_run, networks_table, scores_table

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SEARCHED, UNSEEN = range(1, 11), range(11, 16)
"""Seeds of the search, and those that no search has touched."""
POINTS, GAMES = 60, 30
Row = Mapping[str, Any]


class Page(NamedTuple):
    """
    :param env_id: whose runs it shows
    :param steps: least length of the runs that are compared
    :param marks: steps at which the table reads the return
    :param seeds: of the runs
    :param settings: of the runs; None: all
    :param most_steps: a longer run is another run, and on a page of its own
    """

    env_id: str
    steps: int
    marks: tuple[int, ...]
    seeds: range = SEARCHED
    settings: tuple[str, ...] | None = None
    most_steps: int = 500_000


PAGES: dict[str, Page] = {
    "pong": Page(GAME, 200_000, (100_000, 150_000, 200_000)),
    "pong-shipped": Page(GAME, 500_000, (200_000, 300_000, 400_000, 500_000), UNSEEN, (SHIPPED_NAME,)),
    "pong-controls": Page(GAME, 300_000, (100_000, 200_000, 300_000), UNSEEN, (SHIPPED_NAME, *CONTROLS)),
    "pendulum": Page("Pendulum-v1", 50_000, (10_000, 25_000, 50_000)),
}
"""By the names of tables and of plots (``docs/img/NAME_curves.png``)."""
README_ROWS = {
    SHIPPED_NAME: "`StablePPO`, our policy, our settings",
    "shipped, PPO": "stock PPO, our policy, our settings",
    "shipped, PPO, CnnPolicy": "stock PPO and policy, our settings",
    "stock": "stock PPO and policy, rl_zoo3's settings",
}
"""Of ``pong-controls``, in words for somebody who has read nothing else."""


def runs(page: Page, least_steps: int = 0) -> list[Row]:
    """The runs that a page shows, of one cell the longest."""
    longest: dict[tuple[str, int], Row] = {}
    for row in runs_of(page.env_id):
        name, seed, steps = (row["cell"][key] for key in ("settings", "seed", "steps"))
        wanted = seed in page.seeds and (page.settings is None or name in page.settings)
        wanted = wanted and least_steps <= steps <= page.most_steps
        if wanted and steps >= longest.get((name, seed), row)["cell"]["steps"]:
            longest[name, seed] = row
    return list(longest.values())


def by_settings(page: Page) -> dict[str, list[Row]]:
    """Runs of a page that are long enough, by settings."""
    found: dict[str, list[Row]] = {}
    for row in runs(page, page.steps):
        found.setdefault(row["cell"]["settings"], []).append(row)
    return found


def return_at(row: Row, step: float, last: int = 100) -> float:
    """Mean return of the last episodes; before the first has ended, that of the first."""
    value = mean_return(row["games"], step, last)
    return float(row["games"][0][1]) if value is None else value


def settings_table(page: Page) -> str:
    """A row for each settings: the return of the last 100 episodes at some steps, over seeds."""
    lines = [
        [
            name,
            len(rows),
            *(shown([return_at(row, step) for row in rows]) for step in page.marks),
            round(sum(row["minutes"] for row in rows)),
        ]
        for name, rows in sorted(by_settings(page).items())
    ]
    heads = [f"return at {step // 1000}k" for step in page.marks]
    return markdown(["settings", "seeds", *heads, "minutes in all"], lines)


def readme_table() -> str:
    """What is left of Pong's return as our parts are taken away one by one."""
    page = PAGES["pong-controls"]
    rows = by_settings(page)
    lines = [
        [words, len(rows[name]), *(shown([return_at(row, step) for row in rows[name]]) for step in page.marks[1:])]
        for name, words in README_ROWS.items()
    ]
    heads = [f"return after {step:,} steps" for step in page.marks[1:]]
    return markdown(["Pong", "seeds", *heads], lines)


def tables() -> dict[str, str]:
    """All tables, by name."""
    of_settings = {name: settings_table(page) for name, page in PAGES.items()}
    of_runs = {f"{name}-runs": table(runs(page)) for name, page in PAGES.items() if page.env_id == GAME}
    return {
        **of_settings,
        **of_runs,
        "readme": readme_table(),
        "make-pong": make_pong_table(),
        "million-steps": million_steps_table(),
        "million-steps-shipped": shipped_table(),
        "healthy-runs": healthy_runs_table(),
        "healthy-images": ranges_table(IMAGES),
        "healthy-vectors": ranges_table(VECTORS),
        "continual": screening_table(),
        "off-policy-dqn": off_policy_table("dqn", OFF_POLICY["dqn"].steps),
        "games": games_table(),
        "vectors-scores": scores_table(),
        "vectors-over-runs": networks_table(mean_over_run),
        "vectors-final": networks_table(final),
    }


def curves(page: Page) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """For each settings, as far as all its runs go: steps, and at each middle, low and high of the last games."""
    found = {}
    for name, rows in by_settings(page).items():
        steps = np.linspace(0, min(row["cell"]["steps"] for row in rows), POINTS + 1)[1:]
        values = [interval([return_at(row, step, GAMES) for row in rows]) for step in steps]
        found[name] = (steps, np.array(values))
    return found


def plot(page: Page, path: Path) -> None:
    """Draw the curves of all settings, each with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, (steps, values) in sorted(curves(page).items()):
        (line,) = axes.plot(steps, values[:, 0], label=name)
        axes.fill_between(steps, values[:, 1], values[:, 2], color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"mean return of the last {GAMES} episodes")
    if page.env_id.startswith("Pong"):
        axes.axhline(MARK, color="grey", linewidth=0.8, linestyle="--")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def filled(text: str, texts: Mapping[str, str]) -> str:
    """
    >>> filled("<!-- figures: a -->\\nold\\n<!-- end -->", {"a": "new"})
    '<!-- figures: a -->\\n\\nnew\\n\\n<!-- end -->'

    :param text: of a page
    :param texts: what belongs between the marks, by name
    """

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{texts[found[2]]}\n\n<!-- end -->"

    return re.sub(r"(<!-- figures: ([\w-]+) -->)\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


def outdated(texts: Mapping[str, str], act: Callable[[Path, str], None] = lambda *_: None) -> list[str]:
    """
    :param texts: of :func:`tables`
    :param act: called with each page that says something else, and with what it should say
    :return: the names of these pages
    """
    found = []
    for path in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        text = filled(path.read_text(), texts)
        if text != path.read_text():
            found.append(path.name)
            act(path, text)
    return found


def write(path: Path, text: str) -> None:
    """Replace a page."""
    path.write_text(text)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="only say which pages are out of date")
    return parser


def main() -> int:
    args = parsed(options())
    texts = tables()
    if args.table or args.smoke:
        print("\n\n".join(texts.values()))
        return 0
    pages = outdated(texts) if args.check else outdated(texts, write)
    print("\n".join(pages) or "All pages say what is on record.")
    if args.check:
        return int(bool(pages))
    words = "".join(path.read_text() for path in DOCS.glob("*.md"))
    for name, page in PAGES.items():
        if f"img/{name}_curves.png" in words:
            plot(page, DOCS / "img" / f"{name}_curves.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
