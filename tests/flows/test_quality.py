"""Quality through the real flow: llama.cpp asked in four quantisations, and a task run by a stand-in for lm-eval."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flows import quality, quality_tasks
from flows.measure import measure_setup
from models import experiment as experiments
from models.errors import UserError
from models.records import HostInfo
from tests.conftest import Dyno
from warehouse import distributions, reader, writer

FILE = """
name: quality
models: [synthetic-llama-15m]
engines:
  - {engine: llama_cpp, batching: [{max_sequences: 1, context_tokens: 512}, {max_sequences: 2, context_tokens: 512}]}
  - {engine: llama_cpp, variant: llama_cpp.server, quantizations: [Q4_0]}
quantizations: [F16, Q8_0, Q4_0, Q2_K]
workloads: [{name: chat, scale: {input: 0.02, output: 0.02}}]
load: {concurrency: [1], requests: 3}
"""


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "x.yaml"
    path.write_text(text)
    return path


@pytest.mark.engine
def test_coarser_weights_are_further_from_the_unquantised_ones(tmp_path: Path, dyno: Dyno) -> None:
    home = tmp_path / "home"
    report = quality.ask_file(written(tmp_path), home)
    assert len(report.asked) == 4 and report.failed == {}, "setups that only batch otherwise are asked once"
    assert "--logits_all" in report.left_out["llama_cpp.server Q4_0"]
    rows = reader.query(home, "from quality").to_dicts()
    kl = {r["quantization"]: r["kl_nats"] for r in rows}
    assert kl["F16"] == 0 < 10 * kl["Q8_0"] < kl["Q4_0"] < kl["Q2_K"]
    apart = {r["quantization"]: (r["kl_nats_low"], r["kl_nats_high"]) for r in rows}
    assert apart["Q8_0"][1] < apart["Q4_0"][0] and apart["Q4_0"][1] < apart["Q2_K"][0]
    agree = {r["quantization"]: r["top1_agreement"] for r in rows}
    assert agree["F16"] == 1 and agree["Q8_0"] > 0.8 > agree["Q4_0"] > agree["Q2_K"]
    assert all(r["positions"] == 64 and r["synthetic"] and r["same_engine"] for r in rows)
    again = quality.ask_file(written(tmp_path), home)
    assert (again.asked, len(again.known)) == ([], 4)
    shown = dyno("quality", home=home)
    assert shown.returncode == 0 and "llama-server" in shown.stdout and "Random weights" in shown.stdout
    listed = json.loads(dyno("quality", "--json", home=home).stdout)
    assert {r["quantization"] for r in listed} == set(kl)


@pytest.mark.engine
def test_an_evaluation_asks_before_the_load_and_only_where_it_is_wanted(tmp_path: Path) -> None:
    from flows import preflight

    plan = preflight.plan(experiments.load(written(tmp_path)), "x.yaml")
    setup, trials = plan.by_setup()[0]
    told: list[str] = []
    measure_setup(setup, trials, tmp_path, HostInfo(), progress=lambda step, *_: told.append(step))
    assert distributions.paths(tmp_path) == [] and "quality" not in told
    measure_setup(setup, trials, tmp_path, HostInfo(), progress=lambda step, *_: told.append(step), with_quality=True)
    assert told.index("quality") < len(told) - 1 - told[::-1].index(trials[-1].label)
    asked, frame = distributions.read(distributions.paths(tmp_path)[0])
    assert asked.numerics_id == setup.numerics_id and frame.height == 64 * 1000 and asked.seconds > 0
    python = next(one for one, _ in plan.by_setup() if one.engine.variant == "llama_cpp.server")
    of_python = [t for t in plan.trials if t.setup == python]
    measure_setup(python, of_python, tmp_path, HostInfo(), progress=lambda step, *_: told.append(step),
                  with_quality=True)
    assert "quality not known" in told, "an engine that cannot be asked is measured all the same"
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    rows = reader.query(tmp_path, "select variant, kl_nats, is_quality_reference from measurements order by variant")
    assert rows.rows() == [("llama-server", 0.0, True), ("llama_cpp.server", None, None)]


STAND_IN = '''
"""A stand-in for lm-evaluation-harness: asks the endpoint one question and writes results in its form."""
import argparse, json, pathlib, sys, urllib.request

asked = argparse.ArgumentParser()
for name in ("model", "tasks", "model_args", "output_path", "limit", "include_path"):
    asked.add_argument(f"--{name}")
asked = asked.parse_args()
settings = dict(pair.split("=", 1) for pair in asked.model_args.split(","))
if asked.tasks == "no-such-task":
    sys.exit("Tasks not found: no-such-task")
body = json.dumps({"model": settings["model"], "prompt": "A bridge", "max_tokens": 2}).encode()
request = urllib.request.Request(settings["base_url"], body, {"Content-Type": "application/json"})
text = json.load(urllib.request.urlopen(request))["choices"][0]["text"]
out = pathlib.Path(asked.output_path) / settings["model"]
out.mkdir(parents=True)
found = {task: {"alias": task, "exact_match,strict": 0.5, "exact_match_stderr,strict": 0.1, "note,none": text}
         for task in asked.tasks.split(",")}
(out / "results_2026.json").write_text(json.dumps({
    "results": found, "n-samples": {task: {"effective": int(asked.limit or 9)} for task in found},
    "lm_eval_version": "0.0-stand-in"}))
'''


@pytest.mark.engine
def test_tasks_run_against_the_served_endpoint_and_their_scores_are_kept(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lm_eval.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(quality_tasks, "_python", lambda progress: Path(sys.executable))
    file = written(tmp_path, FILE.replace("[F16, Q8_0, Q4_0, Q2_K]", "[Q8_0]").replace(", quantizations: [Q4_0]", ""))
    home = tmp_path / "home"
    done, failed = quality_tasks.run_file(file, quality_tasks.Wanted(("one", "two"), limit=5), home)
    assert failed == {} and {one.setup.engine.label for one in done} == {"llama_cpp", "llama_cpp.server"}
    rows = reader.query(home, "from scores where variant = 'llama-server' order by task, filter").to_dicts()
    assert [(r["task"], r["metric"], r["filter"], r["value"], r["stderr"], r["samples"]) for r in rows] == [
        (task, "exact_match", *rest) for task in ("one", "two") for rest in (("strict", 0.5, 0.1, 5),)]
    writer.rebuild(home)
    writer.publish(home)
    assert reader.query(home, "select count(*) as n from scores")["n"].item() == 4
    done, failed = quality_tasks.run_file(file, quality_tasks.Wanted(("no-such-task",)), home)
    assert done == [] and all("Tasks not found" in reason for reason in failed.values()) and len(failed) == 2


def test_what_cannot_be_used_is_said_at_once(tmp_path: Path, dyno: Dyno) -> None:
    done = dyno("quality", "--tasks", "gsm8k")
    assert done.returncode == 2 and "need an experiment FILE" in done.stderr
    done = dyno("quality")
    assert done.returncode == 2 and "nothing has been measured" in done.stderr
    with pytest.raises(UserError, match="no such folder"):
        quality_tasks.run_file(written(tmp_path), quality_tasks.Wanted(("x",), folder=tmp_path / "none"), tmp_path)
