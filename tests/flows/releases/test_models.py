"""Where releases are looked for: the Hub's API, on a server that answers as it does, and folders."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from engines._checkpoints import checkpoint, hf_checkpoint, resolve_model
from flows.releases import folder, hub
from models.errors import ModelError, UserError
from models.releases.policy import FollowFolder, FollowHub, FollowModels
from tests.engines.hub import COMMIT, Hub
from tests.flows.releases.shared import LIST, NOTHING, TINY, known, silent


def test_an_organisations_models_are_told_with_what_a_policy_asks_for(organisation: Hub) -> None:
    found = {r.name: r for r in hub.look(FollowHub(hub="org"), NOTHING, silent)}
    assert set(found) == {"org/Tiny", "org/Tiny-GGUF", "org/Closed"}
    tiny = found["org/Tiny"]
    assert (tiny.format, tiny.licence, tiny.parameters, tiny.gated, tiny.revision) == (
        "safetensors", "apache-2.0", 15191712, False, COMMIT)
    assert (tiny.released_at, tiny.url) == ("2026-11-19T08:00:00+00:00", f"{organisation.url}/org/Tiny")
    assert (found["org/Tiny-GGUF"].files, found["org/Tiny-GGUF"].parameters) == (("tiny-Q4_0.gguf",), 15191712)
    assert found["org/Closed"].gated
    assert "sort=lastModified" in organisation.asked[0] and "author=org" in organisation.asked[0]
    few = list(hub.look(FollowHub(hub="", search="tiny", tags=("gguf",), newest=1), NOTHING, silent))
    assert [r.name for r in few] == ["org/Tiny-GGUF"]


def test_what_is_known_is_not_asked_for_again_and_an_edited_readme_is_no_release(organisation: Hub) -> None:
    tiny, *others = hub.look(FollowHub(hub="org"), NOTHING, silent)
    before = len(organisation.asked)
    assert list(hub.look(FollowHub(hub="org"), known(tiny, *others), silent)) == []
    assert all("/api/models?" in asked for asked in organisation.asked[before:])  # the list alone
    organisation.about["org/Tiny"] = LIST | {"sha": "a" * 40}
    folder_ = organisation.repositories["org/Tiny"]
    assert isinstance(folder_, Path)
    (folder_ / "README.md").write_text("# tiny, explained")
    (edited,) = hub.look(FollowModels(models=("org/Tiny",)), known(tiny), silent)
    assert edited.release_id == tiny.release_id and edited.revision == "a" * 40
    organisation.about["org/Tiny"] = LIST | {"sha": "b" * 40}
    (folder_ / "model.safetensors").write_bytes(b"better weights")
    (changed,) = hub.look(FollowModels(models=("org/Tiny",)), known(tiny), silent)
    assert changed.release_id != tiny.release_id
    assert changed.released_at == "2026-11-20T09:00:00+00:00"  # new weights are as old as their commit


def test_a_limit_ends_the_round_and_loses_nothing(organisation: Hub) -> None:
    organisation.limited_after = 3  # two pages of the list, one repository
    told: list[str] = []
    (first,) = hub.look(FollowHub(hub="org"), NOTHING, told.append)
    assert len(told) == 1 and "the Hub limits how often it is asked: wait some minutes, or set HF_TOKEN" in told[0]
    organisation.limited_after = None
    assert {r.name for r in hub.look(FollowHub(hub="org"), known(first), silent)} == {"org/Tiny-GGUF", "org/Closed"}


@pytest.mark.parametrize(("answer", "why"), [
    ("gated", "accept them on its page"), ("missing", "no such repository, or it is private"),
    ("gone", "no such repository"), ("broken", "500")])
def test_trouble_with_one_repository_is_told_and_the_next_is_looked_at(
        organisation: Hub, answer: str, why: str) -> None:
    organisation.repositories["org/Tiny"] = answer
    told: list[str] = []
    found = list(hub.look(FollowModels(models=("org/Tiny", "org/Closed")), NOTHING, told.append))
    assert [r.name for r in found] == ["org/Closed"]
    assert len(told) == 1 and why in told[0] and "org/Tiny" in told[0]


def test_a_hub_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # it asks again, for 20 s in all
    with pytest.raises(ModelError, match="hub: org: the Hub does not answer"):
        list(hub.look(FollowHub(hub="org"), NOTHING, silent))


def test_a_shape_is_read_without_the_weights(there: Hub, tmp_path: Path) -> None:
    there.repositories["org/tiny"] = hf_checkpoint(resolve_model(TINY), "BF16").path
    there.about["org/tiny"] = LIST
    (release,) = hub.look(FollowModels(models=("org/tiny",)), NOTHING, silent)
    described = hub.described(release, [])
    assert described.architecture == resolve_model(TINY).architecture and described.quantization == "BF16"
    assert there.fetched("model.safetensors") <= 100_001
    gguf = tmp_path / "gguf"
    gguf.mkdir()
    shutil.copy(checkpoint(resolve_model(TINY), "Q4_0").path, gguf / "tiny-Q4_0.gguf")
    there.repositories["org/tiny-GGUF"] = gguf
    (release,) = hub.look(FollowModels(models=("org/tiny-GGUF",)), NOTHING, silent)
    assert hub.described(release, ["tiny-Q4_0.gguf"]).architecture == resolve_model(TINY).architecture


def test_a_folder_tells_whole_checkpoints_only(tmp_path: Path) -> None:
    dropped = tmp_path / "dropped"
    entry = FollowFolder(folder="dropped", settle_s=5)
    with pytest.raises(UserError, match="folder: dropped: there is no such folder"):
        list(folder.look(entry, NOTHING, silent, tmp_path))
    dropped.mkdir()
    shutil.copytree(hf_checkpoint(resolve_model(TINY), "BF16").path, dropped / "whole")
    shutil.copy(checkpoint(resolve_model(TINY), "Q4_0").path, dropped / "tiny.gguf")
    (dropped / "broken.gguf").write_bytes((dropped / "tiny.gguf").read_bytes()[:-2_000_000])
    (dropped / "whole/config.json").touch()
    (dropped / "notes.txt").write_text("no checkpoint")
    (dropped / ".hidden.gguf").write_bytes(b"")
    told: list[str] = []
    assert list(folder.look(entry, NOTHING, told.append, tmp_path)) == []
    assert len(told) == 3 and "it is looked at when nothing was written for 5 s" in told[0]
    for path in (dropped, *dropped.rglob("*")):
        os.utime(path, (time.time() - 60,) * 2)
    found = {r.name: r for r in folder.look(entry, NOTHING, silent, tmp_path)}
    assert set(found) == {"whole", "tiny", "broken"}
    assert (found["tiny"].format, found["tiny"].quantization) == ("gguf", "Q4_0")
    assert (found["whole"].format, found["whole"].quantization) == ("safetensors", "BF16")
    assert found["whole"].architecture == resolve_model(TINY).architecture
    assert "broken.gguf ends early" in str(found["broken"].unreadable)
    again = known(*found.values())
    assert list(folder.look(entry, again, silent, tmp_path)) == []
    (dropped / "tiny.gguf").rename(dropped / "renamed.gguf")
    assert [r.name for r in folder.look(entry, again, silent, tmp_path)] == ["renamed"]
