"""What a worker in the pool `load` runs: its part of somebody's load."""

from __future__ import annotations

from prefect import flow, get_run_logger

from workloads import hosts


@flow(name="load", validate_parameters=False)
def load(host: str, port: int, ticket: str) -> int:
    """Drives a part of each load that a coordinator at host:port has, until it hangs up.

    Args:
        host: of the coordinator, which started this run.
        port: of the coordinator.
        ticket: proves that this run belongs to its load; worth nothing once the load has begun.
    """
    sent = hosts.take_part((host, port), ticket)
    get_run_logger().info("sent %d requests", sent)
    return sent
