"""Asks a running engine the standard questions and keeps the answers as samples: see samples/README.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import httpx
import yaml

from models.records import Endpoint
from models.specs import Api, Workload
from tests.engines.recorded import Sample, gives
from workloads import dialects

PROMPT = "the of and to in is it you"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"kind": {"enum": ["red", "green"]}}, "required": ["kind"],
                          "additionalProperties": False}
PICK = {"name": "pick", "description": "picks one", "parameters": SCHEMA}
SHAPED: dict[str, dict[str, Any]] = {"schema": {"json_schema": SCHEMA}, "tools": {"tools": [PICK]}}
TOO_LONG = 40_000
"""Words: more than any model that samples are recorded from takes."""


def question(chat: bool, text: str = PROMPT) -> dict[str, object]:
    """A prompt as that kind of API takes it."""
    return {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}


Question = tuple[dict[str, Any], dict[str, Any]]
"""A body, and what the sample's line says beside the answer."""
_FOLDERS = re.compile(rb"/(?:root|home|tmp|var|work|opt)/[^\"\s\\]*/")
"""Paths of the machine that recorded, which are nobody's business."""


def questions(endpoint: Endpoint, api: Api, words: int, calling: dict[str, Any]) -> dict[str, Question]:
    """By the name of the sample."""
    speaks = dialects.of(api)

    def body(text: str = PROMPT, limit: int = 6, **more: Any) -> dict[str, Any]:
        asked = Workload.model_validate({"name": "sample", "api": api, "input_tokens": {"mean": 8},
                                         "output_tokens": {"mean": limit}, **more})
        return speaks.asker(endpoint, asked, True)(question(speaks.chat, text), limit)

    found: dict[str, Question] = {"": (body(), {"asked": 6})}
    if api != "chat":
        found["too-long"] = (body("the " * words), {"asked": 6, "shows": "too long"})
    if api == "completions":
        found["again"] = (body(), {"asked": 6})
        found["unknown-model"] = ({**body(), "model": "no-such-model"}, {"asked": 6, "shows": "unknown model"})
        found["bad"] = ({**body(), "max_tokens": "many"}, {"asked": 6})
    for name, more in SHAPED.items():
        if name == "schema" or api == "chat":
            asked = body(limit=48, **more)
            found[name] = ({**asked, **calling} if name == "tools" else asked, {"asked": 48, "workload": more})
    return found


def answered(url: str, path: str, body: dict[str, Any]) -> tuple[httpx.Response, bytes, str]:
    """The answer, as much of its body as came, and how the connection ended."""
    content, ending = b"", "complete"
    with httpx.Client(base_url=url, timeout=600, trust_env=False) as http, http.stream("POST", path, json=body) as got:
        try:
            for piece in got.iter_bytes():
                content += piece
        except httpx.RemoteProtocolError:
            ending = "closed"
    return got, _FOLDERS.sub(b"/srv/", content), ending


@click.command()
@click.argument("url")
@click.option("--model", required=True)
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--recorded", required=True, help="From which version and model, and when.")
@click.option("--variant")
@click.option("--api", "apis", multiple=True, default=["completions", "chat"])
@click.option("--path", "paths", multiple=True, help="GET this too: /metrics, /props, …")
@click.option("--words", default=TOO_LONG, show_default=True, help="Of the prompt that is too long.")
@click.option("--body", default='{"temperature": 0.0}', show_default=True, help="Fields of every request.")
@click.option("--fixed", default='{"ignore_eos": true}', show_default=True, help="Fields that forbid the end.")
@click.option("--calling", default="{}", help="More fields of the request with tools, so that random weights call one.")
@click.option("--usage/--no-usage", default=True)
@click.option("--schema-form", default="response_format")
def main(url: str, model: str, into: Path, recorded: str, variant: str | None, apis: tuple[Api, ...],
         paths: tuple[str, ...], words: int, body: str, fixed: str, calling: str, usage: bool,
         schema_form: str) -> None:
    """Asks the server at URL, writes samples INTO a folder and prints their lines."""
    into.mkdir(parents=True, exist_ok=True)
    endpoint = Endpoint.model_validate({"url": url, "model": model, "body": json.loads(body), "usage_in_stream": usage,
                                        "fixed_length": json.loads(fixed), "schema_form": schema_form})
    same = {"variant": variant} if variant else {}
    lines: list[dict[str, Any]] = []
    for api in apis:
        for name, (asked, said) in questions(endpoint, api, words, json.loads(calling)).items():
            answer, content, ending = answered(url, dialects.of(api).path(endpoint), asked)
            stream = "event-stream" in answer.headers.get("content-type", "")
            file = "-".join(filter(None, (api, name))) + (".sse" if stream else ".json")
            (into / file).write_bytes(content)
            status = {} if answer.status_code == 200 else {"status": answer.status_code}
            ended = {} if ending == "complete" else {"ending": ending}
            line = {"file": file, "kind": "answer", **same, "api": api, **status, **ended, **said, "recorded": recorded}
            lines.append({**line, "gives": gives(Sample.model_validate({**line, "folder": into, "gives": {}}))})
    for path in paths:
        answer = httpx.get(url + path, timeout=60, trust_env=False)
        kind = "json" if "json" in answer.headers.get("content-type", "") else "txt"
        file = f"{path.strip('/').replace('/', '-')}.{kind}"
        (into / file).write_bytes(_FOLDERS.sub(b"/srv/", answer.content))
        lines.append({"file": file, "kind": "metrics" if path == "/metrics" else path, **same, "recorded": recorded,
                      "gives": {}})
    click.echo(yaml.safe_dump({"samples": lines}, sort_keys=False, width=110, allow_unicode=True))


if __name__ == "__main__":
    main()
