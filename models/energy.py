"""Joules a token: what the meters beside a load say of its measured window.

    energy = sum over the meters of E(end) - E(start),  E a meter's counter, linear between its readings
    (a GPU that counts no joules: the trapezoid of its watts over the readings, linear between them likewise)
    joules_per_output_token = energy / output tokens that arrived in the window (those of output_tokens_per_second)
    joules_per_request      = energy / requests that ended in it
    power_watts_mean        = energy / window

The window is that of the rates, from the first measured request sent to the last one ended. Power counts whole, idle
power included. Of an engine on GPUs these are counted (nvml): those that hold its processes or, where processes are not
seen (in a container), those that were busy. Of one on CPUs the packages are (rapl), with all else that the machine did.
A meter that was not read both before and after the window is not known for the whole of it: then nothing is said.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from models.latencies import window_ns
from models.records import Summary

Kind = Literal["nvml", "rapl"]
ENERGY = ("joules_per_output_token", "joules_per_request", "power_watts_mean")
BUSY_PERCENT_MIN = 1.0
"""Mean utilisation from which a GPU on which no process is seen counts as used by the load."""


def metered(summary: Summary, requests: pl.DataFrame, telemetry: pl.DataFrame, kind: Kind | None) -> Summary:
    """Returns the summary with the metrics of ENERGY and their source, where power is known for the whole window. kind:
    what meters the engine; None: nothing here does, it runs elsewhere."""
    window = window_ns(requests)
    if kind is None or window is None or not summary.window_s:
        return summary
    meters = _gpus(telemetry) if kind == "nvml" else sorted(set(telemetry.filter(
        pl.col("source").str.starts_with("cpu_package"))["source"]))
    used = [joules(telemetry.filter(pl.col("source") == meter), *window) for meter in meters]
    known = [value for value in used if value is not None]
    if not known or len(known) < len(used):
        return summary
    energy, metrics = sum(known), {"power_watts_mean": sum(known) / summary.window_s}
    for name, rate in (("joules_per_output_token", "output_tokens_per_second"),
                       ("joules_per_request", "requests_per_second")):
        if count := summary.metrics.get(rate, 0.0) * summary.window_s:
            metrics[name] = energy / count
    return summary.model_copy(update={"metrics": summary.metrics | metrics,
                                      "energy_source": f"{kind}: {', '.join(meters)}"})


def joules(samples: pl.DataFrame, start_ns: int, end_ns: int) -> float | None:
    """Returns the energy of one meter between two instants; None where it was not read before and after both."""
    for metric in ("energy_joules", "power_watts"):
        rows = samples.filter(pl.col("metric") == metric).sort("at_ns")
        at, values = rows["at_ns"].to_numpy().astype(float), rows["value"].to_numpy().astype(float)
        if len(at) < 2 or at[0] > start_ns or at[-1] < end_ns:
            continue
        edges = np.interp([start_ns, end_ns], at, values)
        if metric == "energy_joules":
            return float(edges[1] - edges[0])
        inside = (at > start_ns) & (at < end_ns)
        times = np.concatenate([[start_ns], at[inside], [end_ns]]) / 1e9
        watts = np.concatenate([edges[:1], values[inside], edges[1:]])
        return float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(times)))
    return None


def _gpus(telemetry: pl.DataFrame) -> list[str]:
    """The GPUs that did the work; [] when none did."""
    at_work = telemetry.filter((pl.col("metric") == "engine_processes") & (pl.col("value") > 0))
    held = sorted(set(at_work["source"]))
    if held:
        return held
    busy = telemetry.filter(pl.col("metric") == "gpu_percent").group_by("source").agg(pl.col("value").mean())
    return sorted(busy.filter(pl.col("value") >= BUSY_PERCENT_MIN)["source"])
