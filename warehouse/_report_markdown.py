"""A report as Markdown. What charts show is in the tables."""

from __future__ import annotations

import re

from warehouse._blocks import Block, Chart, Code, Document, Facts, Heading, Table, Text


def markdown(document: Document) -> str:
    """The whole text."""
    blocks = [_block(block) for block in document.blocks if not isinstance(block, Chart)]
    return "\n\n".join([f"# {_plain(document.title)}", _plain(document.subtitle), *blocks]) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_plain(block.text)}"
    if isinstance(block, Text):
        return f"**{_plain(block.text)}**" if block.strong else _plain(block.text)
    if isinstance(block, Facts):
        return "\n".join(f"- {_plain(name)}: {_plain(value)}" for name, value in block.rows)
    if isinstance(block, Code):
        fence = "```" if "```" not in block.text else "````"
        return (f"{_plain(block.folded)}:\n\n" if block.folded else "") + f"{fence}\n{block.text.rstrip()}\n{fence}"
    if isinstance(block, Table):
        lines = [block.columns, tuple("---" for _ in block.columns), *block.rows]
        return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)
    raise TypeError(f"no such block: {block}")


def _plain(text: str) -> str:
    """What would be read as markup stays what it is; an underscore within a word is none."""
    return re.sub(r"[\\*`<\[]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")
