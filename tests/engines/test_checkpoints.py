"""Models: named, described and made; the same name gives the same weights."""

import hashlib
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from engines import _checkpoints, _synthetic
from engines._checkpoints import checkpoint, resolve_model
from engines._gguf import read_header
from engines._llama_build import Toolchain
from models.errors import ModelError, Unsupported
from models.specs import ModelSpec


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_named_shapes_have_the_architecture_they_say() -> None:
    model = resolve_model("synthetic-llama-110m")
    a = model.architecture
    assert a is not None
    assert (a.layers, a.hidden_size, a.heads, a.kv_heads, a.head_dim) == (12, 768, 12, 12, 64)
    # embeddings + layers · (attention, feed-forward, two norms) + last norm
    assert a.parameters == 32000 * 768 + 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768) + 768
    assert 2 * a.layers * a.kv_heads * a.head_dim * 2 == 36 * 1024  # F16 KV bytes a token
    qwen = resolve_model("synthetic-qwen-0.5b").architecture
    assert qwen is not None
    assert (qwen.family, qwen.kv_heads, qwen.parameters) == ("qwen2", 2, 494_032_768)  # as the real one's card says


@pytest.mark.parametrize("name", _synthetic.names())
def test_sizes_are_what_the_names_say(name: str) -> None:
    size = name.rsplit("-", 1)[1]
    said = float(size[:-1]) * {"m": 1e6, "b": 1e9}[size[-1]]
    architecture = resolve_model(name).architecture
    assert architecture is not None
    assert architecture.parameters == pytest.approx(said, rel=0.02)


def test_weights_are_the_same_every_time_and_others_with_another_seed(
        llama_install: Toolchain, tmp_path: Path) -> None:
    vocabulary = llama_install.vocabulary("llama-spm")
    digests = []
    for i, seed in enumerate((0, 0, 1)):
        model = _synthetic.synthetic("synthetic-llama-15m", seed)
        _synthetic.write(model, vocabulary, tmp_path / f"{i}.gguf", lambda done: None)
        digests.append(sha256(tmp_path / f"{i}.gguf"))
    assert digests[0] == digests[1] != digests[2]
    # The recipe's number stands for these bytes: if they change, raise it.
    assert read_header(tmp_path / "0.gguf").architecture() == resolve_model("synthetic-llama-15m").architecture


def test_only_visible_tokens_can_be_generated(llama_install: Toolchain) -> None:
    model = resolve_model("synthetic-llama-15m")
    reader = gguf.GGUFReader(checkpoint(model, "F16").path)
    rows = next(t for t in reader.tensors if t.name == "token_embd.weight").data
    used = np.asarray(rows, np.float32).any(axis=1)
    tokens = read_header(llama_install.vocabulary("llama-spm")).metadata["tokenizer.ggml.tokens"]
    assert not used[[tokens.index(t) for t in ("<s>", "</s>", "<unk>", "<0x0A>", "▁▁")]].any()
    assert used[[tokens.index(t) for t in ("▁the", "ing", "é")]].all()
    assert used.sum() > 25_000
    assert np.isfinite(np.asarray(rows, np.float32)).all()


def test_a_byte_level_vocabulary_is_understood(llama_install: Toolchain) -> None:
    header = read_header(llama_install.vocabulary("qwen2"))
    tokens = header.metadata["tokenizer.ggml.tokens"]
    visible = dict(zip(tokens, _synthetic.visible_tokens(header), strict=True))
    assert visible["Ġthe"] and visible["ing"] and visible["Ã©"]
    assert not any(visible[t] for t in ("<|endoftext|>", "Ġ", "Ċ", "Ã"))


@pytest.mark.parametrize(("quantization", "low", "high"), [
    ("F32", 32, 32.1), ("BF16", 16, 16.1), ("Q8_0", 8.5, 8.6), ("Q6_K", 6.56, 6.7), ("Q5_K_M", 5.5, 6.3),
    ("Q4_K_M", 4.5, 5.9), ("Q4_0", 4.5, 5.7), ("IQ4_XS", 4.25, 5.6), ("Q2_K", 2.6, 5.0)])
def test_quantised_as_asked(quantization: str, low: float, high: float, llama_install: Toolchain) -> None:
    made = checkpoint(resolve_model("synthetic-llama-15m"), quantization)
    header = read_header(made.path)
    assert header.quantization == quantization
    assert low <= made.bits_per_weight <= high
    assert made.bytes == made.path.stat().st_size
    assert made.notes == ()  # every row of this shape takes every type
    assert header.architecture() == resolve_model("synthetic-llama-15m").architecture


def test_rows_that_fell_back_to_another_type_are_told() -> None:
    log = ("warning: blk.0.attn_q.weight - ncols    896 not divisible by 256 (required for type    q4_K) -> falling "
           "back to    q5_0\nwarning: blk.1.attn_q.weight - ncols    896 not divisible by 256 (required for type    "
           "q4_K) -> falling back to    q5_0\n")
    assert _checkpoints._fallbacks(log) == [
        "2 tensors have rows of 896, not divisible by 256: q5_0 instead of q4_K"]


def test_a_file_of_ones_own(llama_install: Toolchain, tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    shutil.copy(checkpoint(resolve_model("synthetic-llama-15m"), "F16").path, path)
    model = resolve_model(str(path))
    assert (model.name, model.source, model.content) == ("mine", "file", sha256(path))
    assert model.architecture == resolve_model("synthetic-llama-15m").architecture
    assert checkpoint(model, "F16").path == path
    small = checkpoint(model, "Q4_0")
    assert small.path != path and small.bits_per_weight < 6
    with pytest.raises(Unsupported, match=r"mine-Q4_0 is Q4_0 already.*ask for Q4_0"):
        checkpoint(resolve_model(str(small.path)), "Q8_0")
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelError, match="has changed"):
        checkpoint(model, "F16")


@pytest.mark.parametrize(("content", "why"), [
    (b"not a model at all", "not a GGUF file"),
    (b"", "not a GGUF file"),
    (b"GGUF" + bytes([9, 0, 0, 0]), "GGUF version 9"),
    (b"GGUF" + bytes([3, 0, 0, 0]) + bytes(8), "cut off or damaged"),
    (b"GGUF" + bytes([3, 0, 0, 0]) + bytes(8) + b"\xff" * 16, "cut off or damaged"),
    (b"GGUF" + bytes([3, 0, 0, 0]) + bytes(16), "vocabulary and no weights"),
])
def test_a_file_that_is_no_model(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=why) as raised:
        resolve_model(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_cut_off_anywhere_in_its_header_is_refused(llama_install: Toolchain, tmp_path: Path) -> None:
    whole = checkpoint(resolve_model("synthetic-llama-15m"), "Q4_0").path.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in (5, 23, 30, 100, 1000, 300_000, 600_000):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match="cut off or damaged"):
            read_header(path)


@pytest.mark.parametrize(("model", "why"), [
    ("no-such-model", "unknown model 'no-such-model': give a synthetic one"),
    ("missing/file.gguf", "missing/file.gguf: No such file"),
    ({"name": "synthetic-llama-15m", "colour": "blue"}, "unknown field colour"),
    ({"name": "x", "path": "/nowhere"}, "/nowhere: No such file"),
])
def test_names_that_mean_nothing(model: str | dict[str, str], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        resolve_model(model)


@pytest.mark.parametrize(("quantization", "why"), [("IQ2_XXS", "importance matrix"), ("Q9", "llama.cpp has no 'Q9'")])
def test_quantisations_that_cannot_be_made(quantization: str, why: str, cache: Path) -> None:
    with pytest.raises(Unsupported, match=why):
        checkpoint(resolve_model("synthetic-llama-15m"), quantization)
    assert not cache.exists()


def test_weights_of_another_recipe_are_not_passed_off(cache: Path) -> None:
    old = ModelSpec(name="synthetic-llama-15m", content="recipe 0, seed 0")
    with pytest.raises(ModelError, match="cannot be made by this version"):
        checkpoint(old, "F16")
    assert not cache.exists()
