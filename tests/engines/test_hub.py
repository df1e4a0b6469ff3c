"""Models on the Hugging Face Hub: single GGUF files and whole repositories."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines._checkpoints import check_hf, checkpoint, hf_checkpoint, resolve_model
from engines._llama_build import Toolchain
from models.errors import ModelError, Unsupported
from models.progress import Progress
from tests.engines.hub import COMMIT, Hub, serve

TINY = "synthetic-llama-15m"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield running


@pytest.fixture
def gguf(hub: Hub, llama_install: Toolchain, tmp_path: Path) -> Path:
    folder = tmp_path / "gguf"
    folder.mkdir()
    hub.repositories["org/tiny-GGUF"] = folder
    return Path(shutil.copy(checkpoint(resolve_model(TINY), "F16").path, folder / "tiny-F16.gguf"))


@pytest.fixture
def folder(hub: Hub, llama_install: Toolchain, tmp_path: Path) -> Path:
    """A repository as one meets them: with copies of the weights in other formats."""
    found = tmp_path / "repository"
    shutil.copytree(hf_checkpoint(resolve_model(TINY), "BF16").path, found)
    (found / "dyno.json").unlink()
    for other in ("pytorch_model.bin", "consolidated.safetensors", "original/consolidated.00.pth", "model.onnx"):
        (found / other).parent.mkdir(exist_ok=True)
        (found / other).write_bytes(bytes(100))
    (found / "README.md").write_text("# tiny")
    hub.repositories["org/tiny"] = found
    return found


def in_parts(folder: Path) -> None:
    """Makes the repository one whose weights are in two files."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    empty = b'{"lm_head.weight":{"dtype":"BF16","shape":[32000,1],"data_offsets":[0,64000]}}'
    second = len(empty).to_bytes(8, "little") + empty + bytes(64000)
    (folder / "model-00002-of-00002.safetensors").write_bytes(second)
    where = {"model.norm.weight": "model-00001-of-00002.safetensors",
             "lm_head.weight": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_a_file_is_pinned_and_described_without_fetching_then_fetched(hub: Hub, gguf: Path) -> None:
    model = resolve_model("org/tiny-GGUF:tiny-F16.gguf")
    assert (model.source, model.repository, model.revision, model.content) == ("hub", "org/tiny-GGUF", COMMIT, COMMIT)
    assert model.format == "gguf"
    assert model.architecture == resolve_model(TINY).architecture
    assert hub.fetched(".gguf") < gguf.stat().st_size / 4
    fetched = checkpoint(model, "F16")
    assert fetched.path.read_bytes() == gguf.read_bytes()
    asked = {"repository": "org/tiny-GGUF", "file": "tiny-F16.gguf", "revision": COMMIT}
    assert resolve_model(asked).revision == COMMIT


def test_a_repository_is_pinned_and_described_without_its_weights(hub: Hub, folder: Path) -> None:
    model = resolve_model("org/tiny")
    assert (model.name, model.source, model.repository, model.file) == ("org/tiny", "hub", "org/tiny", None)
    assert (model.revision, model.content, model.format) == (COMMIT, COMMIT, "safetensors")
    assert model.architecture == resolve_model(TINY).architecture
    assert model.quantization == "BF16"
    assert hub.fetched("model.safetensors") <= 100_001  # the beginning, in which the table of tensors is
    named = resolve_model({"name": "mine", "repository": "org/tiny", "revision": COMMIT})
    assert (named.name, named.content) == ("mine", COMMIT)


def test_only_what_an_engine_reads_is_fetched_and_once(hub: Hub, folder: Path) -> None:
    model = resolve_model("org/tiny")
    steps: list[tuple[str, float | None]] = []
    told: Progress = lambda step, done=None, detail="": steps.append((step, done))  # noqa: E731
    made = hf_checkpoint(model, "BF16", told)
    assert {f.name for f in made.path.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert (made.path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert made.bytes == sum(f.stat().st_size for f in made.path.iterdir())
    assert (made.bits_per_weight, made.end_tokens, made.notes) == (16, (2,), ())
    assert ("model org/tiny", 1.0) in steps
    before = len(hub.sent)
    assert hf_checkpoint(model, "BF16") == made
    assert len(hub.sent) == before  # not even asked


def test_weights_in_parts(hub: Hub, folder: Path) -> None:
    in_parts(folder)
    model = resolve_model("org/tiny")
    assert model.architecture is not None and resolve_model(TINY).architecture is not None
    assert not model.architecture.tied_embeddings
    assert model.architecture.parameters == resolve_model(TINY).architecture.parameters + 32000  # type: ignore[union-attr]
    assert sorted(f.name for f in hf_checkpoint(model, "BF16").path.glob("*.safetensors")) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"org/tiny: .*index\.json names model-00002-of-00002\.safetensors, which is"):
        resolve_model("org/tiny")


def test_a_quantised_repository_is_served_as_what_it_is(hub: Hub, llama_install: Toolchain) -> None:
    for name in ("AWQ-INT4", "GPTQ-INT4", "W8A8-INT8", "W8A8-FP8", "W4A16-INT4"):
        hub.repositories[f"org/tiny-{name}"] = hf_checkpoint(resolve_model(TINY), name).path
        model = resolve_model(f"org/tiny-{name}")
        assert model.quantization == name
        assert model.architecture == resolve_model(TINY).architecture
        made = hf_checkpoint(model, name)
        assert made.bits_per_weight == hf_checkpoint(resolve_model(TINY), name).bits_per_weight < 16
        with pytest.raises(Unsupported, match=rf"org/tiny-{name} is {name} already .*: ask for {name}"):
            check_hf(model, "BF16")


def test_an_unquantised_repository_can_be_computed_in_another_type_and_quantised_by_the_engine(
        hub: Hub, folder: Path) -> None:
    model = resolve_model("org/tiny")
    assert hf_checkpoint(model, "F16").notes == ("stored as BF16, made F16 by the engine as it loads",)
    assert hf_checkpoint(model, "FP8", online={"FP8"}).bits_per_weight == 16
    with pytest.raises(Unsupported, match="is BF16, of which no GPTQ-INT4 is made here"):
        hf_checkpoint(model, "GPTQ-INT4")


def test_what_is_in_the_cache_is_used_where_the_hub_does_not_answer(
        hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = resolve_model("org/tiny")
    made = hf_checkpoint(model, "BF16")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert resolve_model("org/tiny") == model
    assert resolve_model({"name": "org/tiny", "revision": COMMIT}) == model
    assert hf_checkpoint(model, "BF16") == made
    with pytest.raises(ModelError, match="model org/other: the Hub does not answer"):
        resolve_model("org/other")


def test_a_half_fetched_repository_is_not_taken_for_a_whole_one(
        hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = resolve_model("org/tiny")  # its config.json is in the cache now
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="model org/tiny: the Hub does not answer"):
        hf_checkpoint(model, "BF16")


def test_the_token_is_sent(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hf_checkpoint(resolve_model("org/tiny"), "BF16")
    assert hub.tokens == {"Bearer hf_secret"}


@pytest.mark.parametrize("model", ["org/tiny", "org/tiny:tiny-F16.gguf"])
@pytest.mark.parametrize(("answer", "why"), [
    ("gated", "accept them on its page at the Hub, and set HF_TOKEN"),
    ("missing", "no such repository, or it is private: then set HF_TOKEN"),
    ("gone", "no such repository"),
    ("limited", "wait some minutes, or set HF_TOKEN"),
    ("broken", "500"),
])
def test_a_refusal_says_what_to_do(model: str, answer: str, why: str, hub: Hub) -> None:
    hub.repositories["org/tiny"] = answer
    with pytest.raises(ModelError, match=why) as raised:
        resolve_model(model)
    assert str(raised.value).startswith(f"model {model}: ")
    assert "\n" not in str(raised.value)


def test_a_refusal_while_fetching_says_what_to_do(hub: Hub, folder: Path) -> None:
    model = resolve_model("org/tiny")
    hub.repositories["org/tiny"] = "gated"
    with pytest.raises(ModelError, match="accept them on its page"):
        hf_checkpoint(model, "BF16")


def test_a_revision_or_a_file_the_hub_does_not_have(hub: Hub, folder: Path, gguf: Path) -> None:
    with pytest.raises(ModelError, match="model org/tiny@v9: there is no such revision"):
        resolve_model({"name": "org/tiny", "revision": "v9"})
    with pytest.raises(ModelError, match=r"model org/tiny-GGUF:other\.gguf: there is no such file"):
        resolve_model("org/tiny-GGUF:other.gguf")


def test_a_repository_without_safetensors_names_what_it_has(hub: Hub, gguf: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.safetensors: name one of its files, as in file: tiny-F16\.gg"):
        resolve_model("org/tiny-GGUF")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="other formats are not read"):
        resolve_model("org/tiny")


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for model in ("org/never-seen", "org/never-seen:tiny-F16.gguf"):
        with pytest.raises(ModelError, match="the Hub does not answer"):
            resolve_model(model)
