"""What the same requests would cost at a hosted API: the prices that genai-prices carries (an optional package)."""

from __future__ import annotations

import datetime as dt
from importlib.metadata import version
from typing import Any

from models.errors import UserError
from models.identity import Record
from models.planning.cost import Request

SHOWN = 8


class Hosted(Record):
    """One provider's price of a mean request, in US dollars. `source` names the package and its version: its prices
    carry no date of their own."""

    provider: str
    model: str
    usd_per_request: float
    usd_per_million_input: float
    usd_per_million_output: float
    source: str


def hosted(model: str, request: Request, at: dt.datetime, provider: str | None = None) -> list[Hosted]:
    """Returns who serves a model for money, the cheapest first; cached input at the provider's price for it.

    A name that no provider knows exactly is looked for in the names they have. `at` is the instant that the prices are
    for (some change by date or hour). Raises UserError without the package, for an unknown provider, or when nobody
    serves it, with the nearest names.
    """
    try:
        from genai_prices.data import providers
    except ModuleNotFoundError:
        raise UserError("prices of hosted APIs come with genai-prices: pip install 'llm-dyno[planning]', or give"
                        " --hosted-input and --hosted-output") from None
    asked = [p for p in providers if provider is None or p.id == provider.lower()]
    if not asked:
        known = ", ".join(sorted(p.id for p in providers))
        raise UserError(f"hosted provider {provider!r}: genai-prices knows {known}")
    pairs = [(p, m) for p in asked if (m := p.find_model(model) or _same(model, p))] or [
        (p, m) for p in asked for m in p.models if _plain(model) in _plain(m.id)]
    found = [one for p, m in pairs if not m.deprecated and (one := _priced(p, m, request, at))]
    if not found:
        raise UserError(f"hosted model {model!r}: {_nearest(model, asked)}")
    return sorted(found, key=lambda h: h.usd_per_request)


def _plain(name: str) -> str:
    return name.lower().rpartition("/")[2].replace("_", "-")


def _same(model: str, provider: Any) -> Any:
    """The provider's model of that name but for case and maker."""
    return next((m for m in provider.models if _plain(m.id) == _plain(model)), None)


def _priced(provider: Any, model: Any, request: Request, at: dt.datetime) -> Hosted | None:
    """None where it is free or has no price a token."""
    from genai_prices import Usage

    def usd(input_tokens: float, output_tokens: float, cached: float = 0) -> float:
        usage = Usage(input_tokens=round(input_tokens), output_tokens=round(output_tokens),
                      cache_read_tokens=round(cached))
        try:
            return float(model.calc_price(usage, provider, genai_request_timestamp=at).total_price)
        except (LookupError, ValueError):
            return 0.0

    whole = usd(1000 * request.input_tokens, 1000 * request.output_tokens, 1000 * request.cached_tokens) / 1000
    if not whole:
        return None
    return Hosted(provider=provider.id, model=model.id, usd_per_request=whole, usd_per_million_input=usd(1e6, 0),
                  usd_per_million_output=usd(0, 1e6), source=f"genai-prices {version('genai-prices')}")


def _nearest(model: str, providers: list[Any]) -> str:
    import difflib

    names = {_plain(m.id): m.id for p in providers for m in p.models}
    close = difflib.get_close_matches(_plain(model), names, SHOWN, 0.6)
    return f"nobody is known to serve it; near it: {', '.join(names[c] for c in close)}" if close else (
        "nobody is known to serve it; name it as a provider does, such as llama-3.1-8b-instruct")
