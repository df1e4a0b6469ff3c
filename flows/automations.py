"""Automations of Prefect: a host that went silent is noticed, its evaluation begins again, and somebody is told."""

from __future__ import annotations

import datetime as dt
import os
from typing import cast
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import Scheduled
from prefect.types import SecretDict

HEARTBEAT_S = 30
"""Between two signs of life of a run, on workers of dyno's; the least that Prefect allows."""
SILENT_S = 3 * HEARTBEAT_S
NOTIFY = "DYNO_NOTIFY_URL"
"""Where to tell: a URL that takes `{"text": …}` in a POST, as incoming webhooks of Slack, Mattermost and others do."""
AGAIN = "dyno: an evaluation that crashed begins again"
_WHY_AGAIN = "its host went away; a worker of its pool begins it again"
_BLOCK = "dyno-notify"
_RUN = "prefect.flow-run."
_FLOW: dict[str, str | list[str]] = {"prefect.resource.role": "flow"}
_OF_EVALUATE: list[ResourceSpecification | dict[str, str | list[str]]] = [
    {**_FLOW, "prefect.resource.name": "evaluate"},
    {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}]


def ensure(client: SyncPrefectClient) -> None:
    """Makes what is missing, by name; what a person changed or switched off stays as it is."""
    wanted = [*_silent(), _again()]
    if url := os.environ.get(NOTIFY):
        wanted.append(_notify(_block(url)))
    for automation in wanted:
        there = client.read_automations_by_name(automation.name)
        if not there:
            client.create_automation(automation)
        elif automation.name == AGAIN and there[0].enabled:
            _catch_up(client)


def _catch_up(client: SyncPrefectClient) -> None:
    """Begins again what crashed while the server was on its way down and no automation saw it."""
    crashed = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["evaluate"])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])),
            deployment_id=FlowRunFilterDeploymentId(is_null_=False)))
    for run in crashed:
        client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry", message=_WHY_AGAIN), force=True)


def _silent() -> list[AutomationCore]:
    """A host that lost power or its link cannot say so itself. An evaluation is not called crashed first: a server that
    just started would wait a quarter of an hour before it acts on an event that follows one it did not see."""
    ended = {_RUN + name for name in ("Completed", "Incomplete", "Failed", "Cancelled", "Crashed", "TimedOut",
                                      "Suspended", "AwaitingRetry")}
    trigger = EventTrigger(after={_RUN + "Pending", _RUN + "heartbeat"}, expect={_RUN + "heartbeat", *ended},
                           match={"prefect.resource.id": _RUN + "*"}, for_each={"prefect.resource.id"},
                           posture=Posture.Proactive, threshold=1, within=dt.timedelta(seconds=SILENT_S))
    why = f"no sign of life of its host for {SILENT_S} s"
    return [
        _automation("dyno: an evaluation whose host went silent begins again",
                    trigger.model_copy(update={"match_related": _OF_EVALUATE}),
                    ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", force=True,
                                       message=f"{why}; a worker of its pool begins it again")),
        _automation("dyno: any other run whose host went silent has crashed",
                    trigger.model_copy(update={"match_related": [{**_FLOW, "prefect.resource.name": "!evaluate"}]}),
                    ChangeFlowRunState(state=StateType.CRASHED, name=None, force=False, message=why))]


def _again() -> AutomationCore:
    """What it measured before lies in bundles and is not measured again; flows.evaluate.ATTEMPTS ends it."""
    return _automation(
        AGAIN,
        EventTrigger(expect={_RUN + "Crashed"}, match={"prefect.resource.id": _RUN + "*"}, match_related=_OF_EVALUATE,
                     for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1),
        ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", force=True,
                           message=_WHY_AGAIN))


def _notify(block: SendNotification) -> AutomationCore:
    return _automation(
        "dyno: tell when an evaluation failed, or measured what nobody expected",
        EventTrigger(expect={_RUN + "Failed", _RUN + "Incomplete", "dyno.*"}, posture=Posture.Reactive,
                     threshold=1), block)


def _automation(name: str, trigger: EventTrigger, action: ActionTypes) -> AutomationCore:
    return AutomationCore(name=name, description="made by dyno; change or switch it off as you like", trigger=trigger,
                          actions=[action])


def _block(url: str) -> SendNotification:
    block = CustomWebhookNotificationBlock(name=_BLOCK, url="{{url}}", secrets=SecretDict({"url": url}), headers=None,
                                           cookies=None, json_data={"text": "{{subject}}\n{{body}}"})
    return SendNotification(block_document_id=cast(UUID, block.save(_BLOCK, overwrite=True)),
                            subject="dyno: {{ event.event }}",
                            body="{{ event.resource.name }}\n{{ event.payload.text or event.payload }}")
