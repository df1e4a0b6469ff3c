"""A report as one HTML file: no script, no font, no picture from elsewhere; charts are SVG in the text's own colours,
so that they can be read in light and in dark."""

from __future__ import annotations

import re
from html import escape

from models.errors import MissingTool
from warehouse._blocks import Block, Chart, Code, Document, Facts, Heading, Table, Text

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --warn: #b45309 }
@media (prefers-color-scheme: dark) { :root { --warn: #f0a848 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto; padding: 24px 16px 64px }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px } h2 { font-size: 19px; margin: 36px 0 8px }
header p { margin: 0; opacity: .75; max-width: none }
p { margin: 8px 0; max-width: 80ch; overflow-wrap: anywhere }
p.strong { font-size: 17px; border-left: 4px solid #0072B2; padding: 8px 12px; background: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 8px 0 }
dt { opacity: .75 } dd { margin: 0; overflow-wrap: anywhere; min-width: 0 }
.wide { overflow-x: auto; margin: 8px 0 }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; white-space: nowrap } .n { text-align: right } .n, .k { white-space: nowrap }
td.l { min-width: 22em }
tr.muted td { opacity: .55 }
pre { background: var(--soft); padding: 10px 12px; border-radius: 6px; font-size: 12.5px; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: 8px 0 }
summary { cursor: pointer }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 16px 24px;
  margin: 12px 0 }
figure { margin: 0 } figcaption { font-weight: 600; font-size: 14px; margin-bottom: 4px }
figure svg { width: 100%; height: auto; max-width: 560px; display: block }
footer { margin-top: 48px; border-top: 1px solid var(--line); padding-top: 8px; font-size: 13px; opacity: .75 }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: 6px } }
@media print { details > pre { display: block } }
"""
_STRONG, _RIGHT, _MUTED, _KEPT, _LONG = (f' class="{name}"' for name in ("strong", "n", "muted", "k", "l"))
_NUMBER = re.compile(r"[-—\d][\d\s.,/()–e%—≥≤-]*")
_SHORT = 36
"""Characters of a cell that is not broken into lines."""


def html(document: Document) -> str:
    """The whole file. Raises MissingTool where the package that draws charts is not installed."""
    body: list[str] = []
    charts: list[str] = []
    for block in document.blocks:
        if isinstance(block, Chart):
            charts.append(_chart(block))
            continue
        body += _grid(charts)
        charts = []
        body.append(_block(block))
    body += _grid(charts)
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
            f"img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n"
            f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n"
            f"<h1>{escape(document.title)}</h1>\n<p>{escape(document.subtitle)}</p>\n</header>\n<main>\n"
            + "\n".join(body) + "\n</main>\n</body>\n</html>\n")


def _grid(charts: list[str]) -> list[str]:
    return ['<div class="charts">\n' + "\n".join(charts) + "\n</div>"] if charts else []


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p{_STRONG if block.strong else ''}>{escape(block.text)}</p>"
    if isinstance(block, Facts):
        return "<dl>" + "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in block.rows) + "</dl>"
    if isinstance(block, Code):
        code = f"<pre>{escape(block.text)}</pre>"
        return f"<details><summary>{escape(block.folded)}</summary>{code}</details>" if block.folded else code
    if isinstance(block, Table):
        return _table(block)
    raise TypeError(f"no such block: {block}")


def _table(block: Table) -> str:
    numeric = [all(_NUMBER.fullmatch(row[i]) for row in block.rows) for i in range(len(block.columns))]
    align = [_RIGHT if n else "" for n in numeric]
    head = "".join(f"<th{a}>{escape(c)}</th>" for c, a in zip(block.columns, align, strict=True))
    rows = "".join(f"<tr{_MUTED if i in block.muted else ''}>"
                   + "".join(f"<td{a or _width(c)}>{escape(c)}</td>" for c, a in zip(row, align, strict=True))
                   + "</tr>\n"
                   for i, row in enumerate(block.rows))
    return (f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{rows}</tbody></table></div>")


def _width(cell: str) -> str:
    return _KEPT if len(cell) <= _SHORT else _LONG


def _chart(block: Chart) -> str:
    try:
        import vl_convert
    except ImportError as error:
        raise MissingTool("charts of a report need a package: pip install vl-convert-python") from error
    svg = str(vl_convert.vegalite_to_svg(block.spec))
    svg = re.sub(r' width="\d+(\.\d+)?" height="\d+(\.\d+)?"', "", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(block.title)}" ', 1)
    return f"<figure><figcaption>{escape(block.title)}</figcaption>{svg}</figure>"
