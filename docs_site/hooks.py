"""
What MkDocs is told beside mkdocs.yml: the pages that do not lie in docs/, and links that lead out of it.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from textwrap import wrap
from typing import Any

from mkdocs.structure.files import File, Files
from rooms import Room, rooms  # MkDocs has this folder on the path

ROOT = Path(__file__).parent.parent
ROOT_PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository that are pages of the site, and what they are called there."""
BRANCH = "main"
FENCE = re.compile(r"(^```.*?^```\s*?$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)"
)
ATTRIBUTE = re.compile(r'(?P<name>src|srcset|href)="(?P<target>[^"#]+)(?P<anchor>#[^"]*)?"')
LAYER = re.compile(r'subgraph \w+\["(?P<title>[^"]*)"\](?P<rooms>.*?)\n\s*end', re.DOTALL)
ROOM = re.compile(r'\w+\["(?P<name>[^"<]*)<br>(?P<purpose>[^"]*)"\]')


def on_config(config: Any) -> Any:
    """Behind the overview of the reference comes a page for each room."""
    pages = [{room.name: f"api/{room.name}.md"} for room in rooms() if room.name]
    for section in config.nav:
        for entry in section.get("Reference", ()):
            if "API" in entry:
                entry["API"] = ["api/index.md", *pages]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from the repository's root, and those of the reference."""
    for name, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    found = rooms()
    files.append(File.generated(config, "api/index.md", content=overview_of(found)))
    for room in found:
        if room.name:
            files.append(File.generated(config, f"api/{room.name}.md", content=page_of(room, found[0])))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001  # MkDocs' signature
    """Lead links to where their targets are on the site or in the repository, and draw the diagram of the rooms."""
    uri = page.file.src_uri
    found = {site: name for name, site in ROOT_PAGES.items()}.get(uri)
    source = PurePosixPath(found or f"docs/{uri}")
    parts = FENCE.split(markdown)
    return "".join(
        drawn(part) if part.startswith("```") else redirected(part, source, uri, config.repo_url) for part in parts
    )


def redirected(text: str, source: PurePosixPath, uri: str, repo_url: str | None) -> str:
    """
    Markdown whose relative links fit the site.

    :param text: outside of code blocks
    :param source: the page's path in the repository
    :param uri: its path in the site's sources
    :param repo_url: where the repository is; None: links to files outside of the site become their text
    """

    def place(target: str) -> tuple[str, bool]:
        """The path in the repository, or on the site where it is there."""
        path = normpath(str(source.parent / target))
        if path in ROOT_PAGES or path.startswith("docs/"):
            return relpath(ROOT_PAGES.get(path, path.removeprefix("docs/")), str(PurePosixPath(uri).parent)), True
        return path, False

    def link(found: re.Match[str]) -> str:
        if is_absolute(found["target"]):
            return found[0]
        path, is_on_site = place(found["target"])
        anchor = found["anchor"] or ""
        if not is_on_site:
            if not repo_url:
                return found["text"]
            path = f"{repo_url.rstrip('/')}/blob/{BRANCH}/{path}"
        return f"{found['image']}[{found['text']}]({path}{anchor})"

    def attribute(found: re.Match[str]) -> str:
        """Of HTML, which MkDocs leaves as it is: the README's, which is the page at the top."""
        if is_absolute(found["target"]):
            return found[0]
        path, _ = place(found["target"])
        is_page = path.endswith(".md")
        return f'{found["name"]}="{path.removesuffix(".md") + "/" if is_page else path}{found["anchor"] or ""}"'

    return ATTRIBUTE.sub(attribute, LINK.sub(link, text))


def is_absolute(target: str) -> bool:
    """Whether a link leads to another host, or is a mail address."""
    return ":" in target or target.startswith("/")


def drawn(block: str) -> str:
    """The diagram of the rooms as HTML, since Mermaid would be loaded from another host; any other block as it is."""
    if not block.startswith("```mermaid"):
        return block
    layers = []
    for layer in LAYER.finditer(block):
        boxes = "".join(
            f'<span class="rooms__room"><b>{escape(room["name"])}</b> {escape(room["purpose"])}</span>'
            for room in ROOM.finditer(layer["rooms"])
        )
        title = f'<div class="rooms__title">{escape(layer["title"])}</div>'
        layers.append(f'<div class="rooms__layer">{title}<div class="rooms__list">{boxes}</div></div>')
    return f'<div class="rooms">{"".join(layers)}</div>'


def page_of(room: Room, top: Room) -> str:
    """
    The reference of a room: what it is for, how its public names are imported, and each of them.

    :param room: the room
    :param top: the package itself, from which users import what it has
    """
    places = {"sb3_stable_ppo": room.names.keys() & top.names.keys()}
    places[f"sb3_stable_ppo.{room.name}"] = room.names.keys() - top.names.keys()
    imports = [f"from {place} import {', '.join(sorted(names))}" for place, names in places.items() if names]
    wrapped = [line for each in imports for line in wrapped_import(each)]
    entries = [f"::: {path}\n" for path in room.names.values()]
    return "\n".join([f"# `{room.name}`\n", f"{room.purpose}\n", "```python", *wrapped, "```\n", *entries])


def wrapped_import(line: str) -> list[str]:
    """
    >>> wrapped_import("from a import b, c")
    ['from a import b, c']

    :param line: an import of several names
    :return: in lines of 80 characters
    """
    if len(line) <= 80:
        return [line]
    head, _, names = line.partition(" import ")
    return [f"{head} import (", *(f"    {part}" for part in wrap(f"{names},", 76)), ")"]


def overview_of(found: list[Room]) -> str:
    """What is imported from the package itself, and a line for each room."""
    (top,) = (room for room in found if not room.name)
    names = [f"| [`{name}`][{path}] | {top.summaries[name]} |" for name, path in top.names.items()]
    places = [f"| [`sb3_stable_ppo.{room.name}`]({room.name}.md) | {room.purpose} |" for room in found[1:]]
    return "\n".join(
        [
            "# API",
            "\nWhat you import from `sb3_stable_ppo` itself:\n",
            "| Name | What it is |",
            "|---|---|",
            *names,
            "\nEach name also lies in the room that it belongs to. The rooms and the rule of their imports are in",
            "[the architecture](../architecture.md).\n",
            "| Room | What it is for |",
            "|---|---|",
            *places,
            "",
        ]
    )
