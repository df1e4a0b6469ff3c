"""The answer as one sentence."""

from __future__ import annotations

from models.choosing.answer import Answer, Choice


def of(answer: Answer) -> str:
    """`2 × NVIDIA L40S, vllm 0.33 FP8, 256 sequences: 1 870 USD a month, …`, or that nothing measured fits."""
    best = answer.best
    if best is not None:
        model = f"{best.stack.model} on " if answer.question.parameters else ""
        return f"{model}{best.label}: {_cost(best)}"
    reasons = {e.kind for e in answer.excluded} - {"verdict"}
    if not answer.excluded:
        return f"Nothing measured answers it: {answer.question.model} was not measured."
    why = {"limit": "keeps the limits", "budget": "is within the budget", "quality": "keeps the quality floor"}.get(
        next(iter(reasons)) if len(reasons) == 1 else "", "fits")
    count = len(answer.excluded)
    return f"Nothing measured {why}: {count} setup{'s' if count != 1 else ''} left out."


def _cost(best: Choice) -> str:
    month = f"{money(best.usd_per_month)} USD a month, " if best.load else ""
    return f"{month}{money(best.usd_per_million_output_tokens)} USD per million output tokens"


def money(usd: float) -> str:
    """Three digits, thousands set apart."""
    return f"{usd:,.0f}".replace(",", " ") if usd >= 100 else f"{usd:.3g}"
