"""Rows of the comparison, and the table of them: the truth first, and each tool's errors before its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench._peers_tools import Figures


@dataclass(frozen=True)
class Row:
    """One tool at one number of streams, or the reason why there are no figures.

    CPU is user and system time of the tool's whole process tree, start_up_s from the command's start to the first
    request at the server, server_late_ms_p99 how far behind its own truth the server was.
    """

    tool: str
    version: str
    streams: int
    truth: Figures
    figures: Figures | None = None
    reason: str = ""
    client_cpu_seconds: float | None = None
    cpu_us_per_token: float | None = None
    start_up_s: float | None = None
    wall_s: float | None = None
    server_requests: int | None = None
    server_tokens: int | None = None
    server_late_ms_p99: float | None = None
    command: str = ""

    @property
    def errors(self) -> dict[str, float]:
        """Reported less true: TTFT in ms, the others in per cent of the truth."""
        if self.figures is None:
            return {}
        said, true = self.figures, self.truth
        return {"ttft_ms_p50_error": said.ttft_ms_p50 - true.ttft_ms_p50,
                "ttft_ms_p99_error": said.ttft_ms_p99 - true.ttft_ms_p99,
                "tpot_error_percent": 100 * (said.tpot_ms_mean / true.tpot_ms_mean - 1),
                "output_tokens_per_second_error_percent":
                    100 * (said.output_tokens_per_second / true.output_tokens_per_second - 1)}

    def flat(self) -> dict[str, object]:
        """One flat object for --json."""
        plain = {name: value for name, value in vars(self).items() if name not in ("truth", "figures")}
        return plain | self.errors | (self.figures._asdict() if self.figures else {})


_COLUMNS: tuple[tuple[str, str, Callable[[Row], object]], ...] = (
    ("tool", "", lambda r: r.tool),
    ("version", "", lambda r: r.version),
    ("streams", "d", lambda r: r.streams),
    ("TTFT p50 error ms", "+.1f", lambda r: r.errors.get("ttft_ms_p50_error")),
    ("p99 error ms", "+.1f", lambda r: r.errors.get("ttft_ms_p99_error")),
    ("TPOT error %", "+.2f", lambda r: r.errors.get("tpot_error_percent")),
    ("tok/s error %", "+.1f", lambda r: r.errors.get("output_tokens_per_second_error_percent")),
    ("TTFT p50 ms", ".1f", lambda r: r.figures and r.figures.ttft_ms_p50),
    ("p99 ms", ".1f", lambda r: r.figures and r.figures.ttft_ms_p99),
    ("TPOT mean ms", ".3f", lambda r: r.figures and r.figures.tpot_ms_mean),
    ("tok/s", ".0f", lambda r: r.figures and r.figures.output_tokens_per_second),
    ("client CPU s", ".1f", lambda r: r.client_cpu_seconds),
    ("µs/token", ".1f", lambda r: r.cpu_us_per_token),
    ("start-up s", ".1f", lambda r: r.start_up_s),
    ("in all s", ".1f", lambda r: r.wall_s),
    ("server late p99 ms", ".2f", lambda r: r.server_late_ms_p99),
)


def table(rows: list[Row]) -> str:
    """The rows under their heads; a reason takes the place of figures, notes follow."""
    cells = [[_cell(value(row), form) for _, form, value in _COLUMNS] for row in rows]
    notes = [f"{r.tool}, {r.streams} streams: {r.figures.note}" for r in rows if r.figures and r.figures.note]
    return "\n".join([aligned([head for head, _, _ in _COLUMNS], cells, [row.reason for row in rows]), *notes])


def _cell(value: object, form: str) -> str:
    return "" if value is None else format(value, form)


def aligned(heads: list[str], cells: list[list[str]], reasons: list[str]) -> str:
    """Text to the left, numbers to the right, heads on two lines; a reason follows the last cell that is filled."""
    split = [head.partition(" ")[::2] for head in heads]
    widths = [max(len(text) for text in (*split[i], *(line[i] for line in cells))) for i in range(len(heads))]

    def line(texts: list[str]) -> str:
        padded = zip(texts, widths, strict=True)
        return "  ".join(t.rjust(w) if i > 1 else t.ljust(w) for i, (t, w) in enumerate(padded))

    lines = [line([upper for upper, _ in split]), line([lower for _, lower in split])]
    for texts, reason in zip(cells, reasons, strict=True):
        lines.append(f"{line(texts).rstrip()}  {reason}".rstrip())
    return "\n".join(lines)
