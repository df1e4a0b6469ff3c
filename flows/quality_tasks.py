"""Tasks of lm-evaluation-harness, run against the endpoint of each setup; its results are kept beside the bundles.

The harness runs as a program of its own, in dyno's own Python where the extra `quality` is installed, and else in an
environment of its own in the cache. It asks /v1/completions. Tasks that generate run on every engine; those that score
given answers by log-likelihood need a server that echoes the prompt's log-probabilities and a tokenizer: vLLM's does.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engines import _packages, launch
from engines._command import run_logged
from engines.launch import Engine
from flows import preflight
from models import experiment as experiments
from models.errors import DynoError, EngineError, UserError
from models.progress import Progress, silent
from models.records import Scored, TaskScore
from models.specs import Setup
from warehouse import distributions, writer

_EXTRA, _TOOL = "quality", "lm-eval"
_CONCURRENT = 4


@dataclass(frozen=True)
class Wanted:
    """Tasks by the harness's names; limit: samples of each at most; folder: more task files (YAML)."""

    tasks: tuple[str, ...]
    limit: int | None = None
    folder: Path | None = None


def run_file(path: Path, wanted: Wanted, home: Path, progress: Progress = silent,
             ) -> tuple[list[Scored], dict[str, str]]:
    """Runs the tasks on every setup of an experiment file, one for all that compute the same, and publishes.

    Returns the scores, and why a setup has none, by its label. Raises UserError for a file that cannot be used and
    BuildFailed when the harness cannot be installed.
    """
    if wanted.folder and not wanted.folder.is_dir():
        raise UserError(f"--include {wanted.folder}: there is no such folder")
    experiment = experiments.load(path)
    expansion = preflight.plan(experiment, str(path))
    python, done, failed = _python(progress), list[Scored](), dict[str, str]()
    for setup in {setup.numerics_id: setup for setup, _ in expansion.by_setup()}.values():
        log = home / "logs" / f"tasks-{setup.setup_id}-{time.time_ns()}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            progress(f"starting {setup.label}")
            with launch.launch(setup, log, progress, timeout_s=experiment.launch_timeout_s) as engine:
                done.append(_scored(setup, engine, python, wanted, home, progress))
        except EngineError as error:
            failed[setup.label] = f"{error}\n{error.log_tail}".strip()
        except DynoError as error:
            failed[setup.label] = str(error)
        finally:
            log.unlink(missing_ok=True)
    if done:
        writer.ingest(home)
        writer.publish(home)
    return done, failed


def _python(progress: Progress) -> Path:
    """An interpreter that has the harness."""
    if importlib.util.find_spec("lm_eval"):
        return Path(sys.executable)
    newest = _packages.default_version(_EXTRA)
    return _packages.environment(_packages.Package(_TOOL, newest, beside=(f"{_TOOL}[api]",), shelf="tools"), progress)


def _scored(setup: Setup, engine: Engine, python: Path, wanted: Wanted, home: Path, progress: Progress) -> Scored:
    """Runs the harness and stores what it found. Raises BuildFailed with its log's tail when it fails."""
    started, endpoint = time.monotonic(), engine.endpoint
    settings = {"model": endpoint.model, "base_url": endpoint.url + endpoint.completions_path,
                "num_concurrent": _CONCURRENT, **_tokenizer(engine)}
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        progress(f"lm-eval on {setup.label}", None, ", ".join(wanted.tasks))
        run_logged("lm-eval", [
            str(python), "-m", "lm_eval", "--model", "local-completions", "--tasks", ",".join(wanted.tasks),
            "--model_args", ",".join(f"{k}={v}" for k, v in settings.items()), "--output_path", str(out),
            *(["--limit", str(wanted.limit)] if wanted.limit else []),
            *(["--include_path", str(wanted.folder)] if wanted.folder else [])], log)
        told = _results(out)
    scored = Scored(numerics_id=setup.numerics_id, setup=setup, variant=engine.run.variant,
                    engine_version=engine.run.engine_version,
                    scores=tuple(_scores(told)), limit=wanted.limit, tool_version=str(told.get("lm_eval_version", "")),
                    scored_at=dt.datetime.now(dt.UTC).isoformat(), seconds=round(time.monotonic() - started, 3),
                    dyno_version=version("llm-dyno"))
    distributions.write_scores(home, scored, json.dumps(told, indent=1, default=str))
    return scored


def _tokenizer(engine: Engine) -> dict[str, object]:
    """Only tasks that score given answers want a tokenizer: that of the served model's folder, if it is one."""
    folder = next((word for word in engine.run.argv if (Path(word) / "tokenizer.json").is_file()), None)
    if folder is None:
        return {"tokenizer_backend": "none", "tokenized_requests": False}
    return {"tokenizer_backend": "huggingface", "tokenizer": folder, "tokenized_requests": False}


def _results(out: Path) -> dict[str, Any]:
    for file in sorted(out.rglob("results_*.json")):
        with contextlib.suppress(ValueError, OSError):
            told = json.loads(file.read_bytes())
            if isinstance(told, dict) and isinstance(told.get("results"), dict):
                return told
    raise UserError("lm-eval ended well and left no results that can be read")


def _scores(told: dict[str, Any]) -> Iterator[TaskScore]:
    """`{"task": {"exact_match,strict": 0.5, "exact_match_stderr,strict": 0.1, …}}`."""
    for task, figures in told["results"].items():
        samples = (told.get("n-samples") or {}).get(task, {}).get("effective")
        for name, value in figures.items():
            metric, comma, kind = name.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
                error = figures.get(f"{metric}_stderr,{kind}")
                yield TaskScore(task=task, metric=metric, filter=kind, value=value, samples=samples,
                                stderr=error if isinstance(error, int | float) else None)


def rows(found: Sequence[Scored]) -> list[dict[str, object]]:
    """One row a setup, task and metric."""
    return [{"setup": one.setup.label, "engine": one.variant or one.setup.engine.engine,
             "quantization": one.setup.engine.quantization,
             "kv_type": one.setup.engine.kv_type, **score.model_dump(), "limit": one.limit}
            for one in found for score in one.scores]
