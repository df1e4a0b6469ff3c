"""Energy and carbon of serving, where power is known. Watts, joules, kilowatt-hours, grams of CO₂ equivalent."""

from __future__ import annotations

JOULES_PER_KWH = 3.6e6


def joules_per_token(power_w: float, tokens_per_second: float) -> float:
    """Returns power ÷ rate. Raises ValueError when nothing is produced."""
    if tokens_per_second <= 0:
        raise ValueError("a rate above 0 tokens a second")
    return power_w / tokens_per_second


def kwh(power_w: float, hours: float, pue: float = 1.0) -> float:
    """Returns the energy drawn from the grid: W × h ÷ 1000 × PUE (power of the site ÷ power of its machines)."""
    return power_w * hours / 1000 * pue


def grams_co2(energy_kwh: float, grams_per_kwh: float) -> float:
    """Returns energy × the grid's carbon intensity (gCO₂e a kWh: the GHG Protocol's location-based method, scope 2)."""
    return energy_kwh * grams_per_kwh
