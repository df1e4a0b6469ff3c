"""Synthetic models as Hugging Face folders: the same weights and the same token ids as the GGUF's."""

import json
import struct
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from engines import _hf_tokenizer, _hf_types, _safetensors, _synthetic
from engines._checkpoints import checkpoint, hf_checkpoint, resolve_model
from engines._gguf import Header, read_header
from engines._llama_build import Toolchain
from engines.launch import launch
from models.errors import ModelError
from models.specs import Setup

TEXTS = (
    "", "a", " a", "  two  spaces ", "Hello, world! It's 12:34 on 2026-11-25.", "tabs\tand\r\nlines\n\n\n  x\n",
    "1234567 ١٢٣", "naïve café, cafe\u0301", "日本語 中文字符 한국어", "🙂🚀👩\u200d👩\u200d👧", "I'LL you're DON'T",
    "\u00a0no-break\u3000wide\u200bzero", "def f(x):\n    return x ** 2  # twice\n", "<s>hello</s> <unk> x",
    "<|im_start|>user\nhi<|im_end|>", "▁▁x ▁", "<0x0A>", "\x01\x7f", "Привет, мир", "العربية ไทย हिन्दी",
    "....!!!???--==>>", "a" * 99, " " * 33, "\n" * 9, "½ ² Ⅷ ﬁ")


def as_f32(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.astype(np.float32)


def test_the_folder_has_the_weights_of_the_gguf(llama_install: Toolchain) -> None:
    model = resolve_model("synthetic-llama-15m")
    a = model.architecture
    assert a is not None
    theirs = load_file(hf_checkpoint(model, "F16").path / "model.safetensors")
    ours = {t.name: np.asarray(t.data) for t in gguf.GGUFReader(checkpoint(model, "F16").path).tensors}
    assert {_safetensors.hf_name(name) for name in ours} == set(theirs)
    for name, values in ours.items():
        wanted = as_f32(theirs[_safetensors.hf_name(name)])
        if name.endswith(("attn_q.weight", "attn_k.weight")):  # convert_hf_to_gguf.py's permute
            wanted = wanted.reshape(a.heads, 2, a.head_dim // 2, -1).swapaxes(1, 2).reshape(wanted.shape)
        np.testing.assert_array_equal(as_f32(values), wanted)


def test_qwen_rows_keep_their_order() -> None:
    rows = np.arange(12.0).reshape(12, 1)
    qwen = _synthetic.shape("synthetic-qwen-0.5b")
    assert _safetensors._rows_for_halves("blk.0.attn_q.weight", rows, qwen) is rows
    llama = _synthetic.shape("synthetic-llama-15m")._replace(heads=2, kv_heads=2, hidden_size=12)
    turned = _safetensors._rows_for_halves("blk.0.attn_q.weight", rows, llama)
    assert turned[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


@pytest.mark.parametrize(("quantization", "dtype", "bits"), [
    ("F32", np.float32, 32), ("F16", np.float16, 16), ("BF16", ml_dtypes.bfloat16, 16)])
def test_unquantised_weights_have_the_type_asked_for(quantization: str, dtype: Any, bits: int,
                                                     llama_install: Toolchain) -> None:
    model = resolve_model("synthetic-llama-15m")
    made = hf_checkpoint(model, quantization)
    config = json.loads((made.path / "config.json").read_text())
    assert config["torch_dtype"] == np.dtype(dtype).name
    assert made.bits_per_weight == bits
    assert made.end_tokens == checkpoint(model, "F16").end_tokens == (2,)
    assert made.bytes == sum(f.stat().st_size for f in made.path.iterdir())
    stored = _hf_types.tensors_of(made.path / "model.safetensors")
    assert {t.dtype for t in stored} == {quantization}
    assert model.architecture is not None
    assert sum(t.elements for t in stored) == model.architecture.parameters
    assert hf_checkpoint(model, quantization) == made  # found, not made again


def test_the_same_model_gives_the_same_folder(llama_install: Toolchain, tmp_path: Path) -> None:
    vocabulary = llama_install.vocabulary("llama-spm")
    model = resolve_model("synthetic-llama-15m")
    for name in "ab":
        (tmp_path / name).mkdir()
        _safetensors.write(model, vocabulary, tmp_path / name, "BF16", lambda done: None)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@contextmanager
def ids_by_llama_server(setup: Setup, log_path: Path) -> Iterator[Callable[[str], list[int]]]:
    with launch(setup, log_path) as running:
        def ids(text: str) -> list[int]:
            request = urllib.request.Request(
                f"{running.endpoint.url}/tokenize", json.dumps({"content": text, "add_special": True}).encode(),
                {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: list[int] = json.load(answer)["tokens"]
            return found

        yield ids


@pytest.mark.engine
def test_llama_server_and_the_folder_give_a_text_the_same_ids(setup_of: Callable[..., Setup],
                                                                         tmp_path: Path) -> None:
    setup = setup_of("synthetic-llama-15m", quantization="F16")
    ours = Tokenizer.from_file(str(hf_checkpoint(setup.model, "F16").path / "tokenizer.json"))
    with ids_by_llama_server(setup, tmp_path / "log") as theirs:
        for text in (*TEXTS, Path(__file__).read_text()):
            assert ours.encode(text).ids == theirs(text), repr(text)


@pytest.mark.parametrize("name", ["llama-spm", "llama-bpe", "qwen2"])
def test_a_tokenizer_gives_texts_back(name: str, llama_install: Toolchain) -> None:
    header = read_header(llama_install.vocabulary(name))
    made = Tokenizer.from_str(json.dumps(_hf_tokenizer.tokenizer(header)))
    assert made.get_vocab_size() == len(header.metadata["tokenizer.ggml.tokens"])
    for text in TEXTS:
        if any(c in text for c in ("<", "▁", "\u0301")):
            continue  # control tokens, the letter that stands for a space, what Qwen composes
        assert made.decode(made.encode(text).ids, skip_special_tokens=True) == text


def test_a_kind_of_vocabulary_that_is_not_known_is_told() -> None:
    header = Header({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tekken"}, ())
    with pytest.raises(ModelError, match=r"gpt2 \(tekken\) cannot be written"):
        _hf_tokenizer.tokenizer(header)


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, struct.pack("<Q", 5) + b"[1,2]", struct.pack("<Q", 9) + b"{}"])
def test_a_file_that_is_no_safetensors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: not a safetensors file"):
        _hf_types.tensors_of(path)
