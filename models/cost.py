"""Cost: the mission's formulas (level 1) and the price of what was measured.

The warehouse's views state the same in SQL. Throughput is interpolated first and divided into cost afterwards; cost is
never interpolated. A price per million over output, input or total tokens each charges the whole machine: they do not
add up.
"""

from __future__ import annotations


def rough_cost_usd(hours: float, price_usd_per_hour: float, instances: int, storage_usd: float = 0.0) -> float:
    """cost = hours used × price per hour × instances + storage cost (survey)."""
    return hours * price_usd_per_hour * instances + storage_usd


def rough_cluster_cost_usd(gpus: int, price_usd_per_gpu_hour: float, hours: float) -> float:
    """GPU cluster: N × price per GPU-hour × hours (survey)."""
    return gpus * price_usd_per_gpu_hour * hours


def rough_instances_cost_usd(instances: int, cost_usd_per_instance: float) -> float:
    """containers: N_inst instances scale out, total cost ∝ N_inst (survey)."""
    return instances * cost_usd_per_instance


def usd_per_million_tokens(price_usd_per_hour: float, tokens_per_second: float) -> float:
    """Price of a million tokens at a measured rate. Raises ZeroDivisionError when nothing was produced."""
    return price_usd_per_hour * 1e6 / (tokens_per_second * 3600)


def usd_per_qps_hour(price_usd_per_hour: float, requests_per_second: float) -> float:
    """Price of one sustained request a second for an hour, at the measured rate."""
    return price_usd_per_hour / requests_per_second


def usd_per_thousand_requests(price_usd_per_hour: float, requests_per_second: float) -> float:
    """Price of a thousand requests at the measured rate."""
    return price_usd_per_hour * 1e3 / (requests_per_second * 3600)
