"""Rounds of the watch, with evaluations that a played dispatcher starts: once each, whatever happens in between."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines._checkpoints import checkpoint, resolve_model
from flows import dispatch
from flows.dispatch import Outcome
from flows.releases import rounds
from models.errors import EngineError, ExperimentError, UserError
from models.releases.release import Seen
from tests.conftest import Dyno
from tests.warehouse import fake
from warehouse import bundles, reader, releases, writer

TEMPLATE = {"name": "night", "models": ["release"], "engines": [{"engine": "llama_cpp"}], "workloads": ["chat"],
            "load": {"concurrency": [1]}, "quantizations": ["Q4_0"]}
POLICY: dict[str, Any] = {"follow": [{"folder": "dropped", "settle_s": 0}],
                          "pools": {"cpu": {"experiment": "night.yaml", "engine_hours": 2}}}


class Played:
    """A dispatcher whose runs end when a test says so. Two starts of one key are one run, as Prefect has it."""

    def __init__(self, home: Path) -> None:
        self.home, self.runs, self.ended = home, dict[str, dict[str, Any]](), dict[str, Outcome]()
        self.away: BaseException | None = None

    def start(self, raw: dict[str, Any], source: str, pool: str, *, key: str, tags: list[str]) -> str:
        if self.away:
            raise self.away
        self.runs.setdefault(key, raw)
        return f"run of {key}"

    def outcome(self, run_id: str) -> Outcome:
        return self.ended.get(run_id, Outcome(state="running"))

    def finish(self, points: int = 1, state: Any = "evaluated", detail: str = "") -> None:
        """Ends the newest run, with what it would have measured."""
        key, raw = list(self.runs.items())[-1]
        self.ended[f"run of {key}"] = Outcome(state=state, detail=detail)
        model = fake.setup().model.model_copy(update={"content": resolve_model(raw["models"][0]).content})
        for i in range(points):
            fake.store(self.home, fake.trial(fake.setup().model_copy(update={"model": model}), seed=i))
        writer.ingest(self.home)
        writer.publish(self.home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def played(home: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    found = Played(home)
    monkeypatch.setattr(dispatch, "start", found.start)
    monkeypatch.setattr(dispatch, "outcome", found.outcome)
    return found


@pytest.fixture
def policy(tmp_path: Path, played: Played) -> Path:
    (tmp_path / "dropped").mkdir()
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(TEMPLATE))
    (tmp_path / "watch.yaml").write_text(yaml.safe_dump(POLICY))
    return tmp_path / "watch.yaml"


def drop(policy: Path, name: str, model: str = "synthetic-llama-15m") -> None:
    """Another checkpoint each time: a GGUF file may have bytes after its tensors."""
    file = policy.parent / "dropped" / f"{name}.gguf"
    shutil.copy(checkpoint(resolve_model(model), "Q4_0").path, file)
    with file.open("ab") as out:
        out.write(name.encode())
    os.utime(file, (time.time() - 60,) * 2)


def edited(policy: Path, **more: Any) -> None:
    policy.write_text(yaml.safe_dump(POLICY | more))


def states(home: Path) -> dict[str, tuple[str, str]]:
    return {s.release.name: (s.state, s.why) for s in releases.every(home)}


def of(home: Path, name: str) -> Seen:
    return next(s for s in releases.every(home) if s.release.name == name)


def test_what_is_new_is_started_once_and_its_row_follows(policy: Path, home: Path, played: Played, dyno: Dyno) -> None:
    drop(policy, "tiny")
    done = rounds.once(policy, home)
    assert [(c.release.name, c.state) for c in done.changed] == [("tiny", "started")]
    (raw,) = played.runs.values()
    assert raw["models"] == [{"name": "tiny", "path": str(policy.parent / "dropped/tiny.gguf")}]
    assert rounds.once(policy, home).changed == [] and len(played.runs) == 1
    played.finish(points=3)
    done = rounds.once(policy, home)
    assert [(c.state, c.why) for c in done.changed] == [("evaluated", "cpu: 3 points")]
    assert rounds.once(policy, home).changed == [] and len(played.runs) == 1
    (row,) = json.loads(dyno("releases", "--json", home=home).stdout)
    assert (row["name"], row["state"], row["pools"], row["format"]) == ("tiny", "evaluated", ["cpu"], "gguf")
    assert row["engine_hours"] > 0 and row["ended_at"] >= row["started_at"]
    assert "tiny" in dyno("releases", home=home).stdout
    writer.rebuild(home)
    assert reader.query(home, "select state from releases").to_dicts() == [{"state": "evaluated"}]


def test_killed_between_the_decision_and_the_start_it_starts_the_same_run(
        policy: Path, home: Path, played: Played) -> None:
    drop(policy, "tiny")
    played.away = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        rounds.once(policy, home)
    (run,) = of(home, "tiny").runs
    assert of(home, "tiny").state == "started" and run.flow_run_id is None
    played.away = None
    rounds.once(policy, home)
    assert list(played.runs) == [run.key] and of(home, "tiny").runs[0].flow_run_id == f"run of {run.key}"


def test_killed_between_the_start_and_its_note_it_finds_the_same_run(
        policy: Path, home: Path, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(policy, "tiny")

    def killed(run_id: str) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatch, "outcome", killed)
    with pytest.raises(KeyboardInterrupt):
        rounds.once(policy, home)
    monkeypatch.setattr(dispatch, "outcome", played.outcome)
    rounds.once(policy, home)
    assert len(played.runs) == 1


def test_a_server_that_is_away_is_asked_again(policy: Path, home: Path, played: Played) -> None:
    drop(policy, "tiny")
    played.away = UserError("no worker has joined that pool yet")
    done = rounds.once(policy, home)
    assert states(home) == {"tiny": ("waiting", "no worker has joined that pool yet")}
    assert done.warnings == ["tiny: no worker has joined that pool yet"]
    played.away = None
    rounds.once(policy, home)
    assert states(home)["tiny"][0] == "started" and len(played.runs) == 1


def test_a_server_that_has_forgotten_a_run_is_asked_for_it_again(
        policy: Path, home: Path, played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(policy, "tiny")
    rounds.once(policy, home)
    (before,) = of(home, "tiny").runs

    def forgotten(run_id: str) -> Outcome:
        raise dispatch.Forgotten("another database")

    monkeypatch.setattr(dispatch, "outcome", forgotten)
    rounds.once(policy, home)
    played.runs.clear()
    monkeypatch.setattr(dispatch, "outcome", played.outcome)
    rounds.once(policy, home)
    assert list(played.runs) == [before.key] and of(home, "tiny").state == "started"


@pytest.mark.parametrize("error", [ExperimentError("night", "models[0]", "no such model"), EngineError("no")])
def test_an_evaluation_that_cannot_be_started_has_failed_and_can_be_asked_for_again(
        policy: Path, home: Path, played: Played, error: Exception) -> None:
    drop(policy, "tiny")
    played.away = error
    rounds.once(policy, home)
    assert states(home) == {"tiny": ("failed", f"cpu: {error}")}
    played.away = None
    assert rounds.once(policy, home).changed == []
    rounds.reopen(home, "tiny")
    rounds.once(policy, home)
    assert states(home)["tiny"][0] == "started"
    with pytest.raises(UserError, match="tiny is being evaluated: cancel its run in Prefect first"):
        rounds.reopen(home, of(home, "tiny").release.release_id[:6])
    with pytest.raises(UserError, match="has seen no release giant"):
        rounds.reopen(home, "giant")


def test_a_run_that_fails_says_why(policy: Path, home: Path, played: Played) -> None:
    drop(policy, "tiny")
    rounds.once(policy, home)
    played.finish(points=0, state="failed", detail="Crashed: out of disk")
    rounds.once(policy, home)
    assert states(home) == {"tiny": ("failed", "cpu: Crashed: out of disk")}


def test_a_run_of_which_nothing_came_up_has_failed(policy: Path, home: Path, played: Played) -> None:
    drop(policy, "tiny")
    rounds.once(policy, home)
    model = fake.setup().model.model_copy(update={"content": of(home, "tiny").release.content})
    failure = fake.failure().model_copy(update={"setup": fake.setup().model_copy(update={"model": model}),
                                                "failed_at": dt.datetime.now(dt.UTC).isoformat()})
    bundles.write_failure(home, failure, None)
    played.finish(points=0)
    rounds.once(policy, home)
    assert states(home) == {"tiny": ("failed", "cpu: 1 launch failed: exited before it was ready")}


def test_what_was_measured_elsewhere_is_waited_for(policy: Path, home: Path, played: Played) -> None:
    drop(policy, "tiny")
    rounds.once(policy, home)
    played.finish(points=0)
    assert rounds.once(policy, home).changed == [] and states(home)["tiny"][0] == "started"
    played.finish(points=1)
    rounds.once(policy, home)
    assert states(home)["tiny"][0] == "evaluated"


def test_the_budget_makes_one_wait_until_another_turned_out_cheaper(policy: Path, home: Path, played: Played) -> None:
    edited(policy, budget={"engine_hours_a_week": 3})
    drop(policy, "first")
    rounds.once(policy, home)
    drop(policy, "second")
    rounds.once(policy, home)
    assert [states(home)[name][0] for name in ("first", "second")] == ["started", "waiting"]
    assert states(home)["second"][1].startswith("budget: 2 of 3 engine-hours of this week are spent or running")
    played.finish()
    rounds.once(policy, home)
    assert [states(home)[name][0] for name in ("first", "second")] == ["evaluated", "started"]


def test_another_policy_decides_anew_about_what_was_skipped(policy: Path, home: Path, played: Played) -> None:
    edited(policy, models={"formats": ["safetensors"]})
    drop(policy, "tiny")
    rounds.once(policy, home)
    assert states(home) == {"tiny": ("skipped", "models.formats: it is gguf")}
    decided = of(home, "tiny").decided_at
    rounds.once(policy, home)
    assert of(home, "tiny").decided_at == decided and not played.runs
    edited(policy)
    rounds.once(policy, home)
    assert states(home)["tiny"][0] == "started"


def test_what_no_engine_of_the_pool_takes_is_skipped_with_the_engines_reason(
        policy: Path, home: Path, played: Played) -> None:
    (policy.parent / "night.yaml").write_text(yaml.safe_dump(TEMPLATE | {"engines": [{"engine": "vllm"}]}))
    drop(policy, "tiny")
    rounds.once(policy, home)
    assert states(home)["tiny"][0] == "skipped" and "which vllm does not read" in states(home)["tiny"][1]


def test_a_source_that_is_away_costs_the_others_nothing(policy: Path, home: Path, played: Played) -> None:
    edited(policy, follow=[{"feed": "http://127.0.0.1:9/feed"}, *POLICY["follow"]])
    drop(policy, "tiny")
    done = rounds.once(policy, home)
    assert states(home)["tiny"][0] == "started"
    assert len(done.warnings) == 1 and done.warnings[0].startswith("feed: http://127.0.0.1:9/feed: 127.0.0.1 does not")


@pytest.mark.parametrize(("change", "said"), [
    ({"pools": {"cpu": {"experiment": "other.yaml"}}}, "other.yaml"),
    ({"pools": {"cpu": {"experiment": "night.yaml", "hardware": "abacus"}}}, r"pools\.cpu: hardware abacus: no spec"),
    ({"follow": []}, r"watch\.yaml: follow: "),
])
def test_a_wrong_policy_is_refused_before_anything_is_done(
        policy: Path, home: Path, played: Played, change: dict[str, Any], said: str) -> None:
    edited(policy, **change)
    drop(policy, "tiny")
    with pytest.raises(ExperimentError, match=said):
        rounds.once(policy, home)
    assert not (home / "releases").exists() and not played.runs


def test_the_command_says_what_is_wrong_in_a_line(dyno: Dyno, home: Path) -> None:
    done = dyno("watch", "--once", home=home)
    assert done.returncode == 2 and "watch.yaml: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
