"""The tokenizer of a GGUF written as Hugging Face's tokenizer.json, so that a text has the same ids on every engine.

What llama.cpp does is followed where the two worlds differ: a piece's own space is put before every stretch of text
that follows a control token. One difference stays: Qwen's texts are composed (Unicode NFC) first, because transformers
5 does so whatever the file says; llama.cpp does not, so text in decomposed letters has other ids there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines._gguf import Header
from models.errors import ModelError

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4  # gguf.TokenType
_SPACE = "▁"
_END = "</s>"  # a control token to llama.cpp even where the file (Qwen's) says that it is text
_WORDS = {  # how a byte-level vocabulary's text is split before merging: llama-vocab.cpp, by tokenizer.ggml.pre
    "qwen2": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+"),
    "llama-bpe": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                  r"|\s*[\r\n]+|\s+(?!\S)|\s+"),
}
_CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' + message.content + "
    "'<|im_end|>\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}")
"""llama.cpp's own for models that have none."""


def write(header: Header, folder: Path, context_tokens: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json. Raises ModelError for a kind of vocabulary not known here."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(header), ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps(_config(header, context_tokens), indent=1))


def first_token(header: Header) -> int | None:
    """The id put before every text, if one is."""
    m = header.metadata
    # llama.cpp's defaults where the file does not say (llama-vocab.cpp)
    added = m.get("tokenizer.ggml.add_bos_token", m["tokenizer.ggml.model"] == "llama" or _pre(header) == "llama-bpe")
    return int(m["tokenizer.ggml.bos_token_id"]) if added else None


def tokenizer(header: Header) -> dict[str, Any]:
    """The content of tokenizer.json. Raises ModelError for a kind of vocabulary not known here."""
    kind = header.metadata["tokenizer.ggml.model"]
    parts: dict[str, Callable[[Header], dict[str, Any]]] = {"llama": _pieces, "gpt2": _byte_level}
    if kind not in parts or (kind == "gpt2" and _pre(header) not in _WORDS):
        raise ModelError(f"a vocabulary of kind {kind} ({_pre(header)}) cannot be written for Hugging Face engines: "
                         f"llama, {' and '.join(_WORDS)} can")
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(header),
            "post_processor": _post_processor(header), **parts[kind](header)}


def _pre(header: Header) -> str:
    return str(header.metadata.get("tokenizer.ggml.pre", "default"))


def _added(header: Header) -> list[dict[str, Any]]:
    """Tokens that are found in a text before it is split."""
    m = header.metadata
    pairs = zip(m["tokenizer.ggml.tokens"], m["tokenizer.ggml.token_type"], strict=True)
    return [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": kind != _USER_DEFINED}
            for i, (text, kind) in enumerate(pairs) if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) or text == _END]


def _vocabulary(header: Header) -> dict[str, int]:
    return {text: i for i, text in enumerate(header.metadata["tokenizer.ggml.tokens"])}


def _model(header: Header, merges: list[str], **others: Any) -> dict[str, Any]:
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": _vocabulary(header), "merges": merges} | others


def _pieces(header: Header) -> dict[str, Any]:
    """SentencePiece's BPE: spaces are a letter, words are not split beforehand, what has no piece becomes bytes."""
    m = header.metadata
    unknown = m["tokenizer.ggml.tokens"][m["tokenizer.ggml.unknown_token_id"]]
    return {
        "normalizer": {"type": "Sequence", "normalizers": [
            *([{"type": "Prepend", "prepend": _SPACE}] if m.get("tokenizer.ggml.add_space_prefix", True) else []),
            {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": _model(header, _merges_of_pieces(header), unk_token=unknown, fuse_unk=True, byte_fallback=True),
    }


def _merges_of_pieces(header: Header) -> list[str]:
    """Every way to put a piece together of two others, the best piece first.

    SentencePiece merges the neighbours whose union scores highest; BPE those whose pair comes first in a list.
    """
    m = header.metadata
    special = {token["content"] for token in _added(header)}
    vocabulary = {text: i for text, i in _vocabulary(header).items() if text not in special}
    found = []
    for piece, i in vocabulary.items():
        score = m["tokenizer.ggml.scores"][i]
        found += [(-score, i, -cut, f"{piece[:cut]} {piece[cut:]}") for cut in range(1, len(piece))
                  if piece[:cut] in vocabulary and piece[cut:] in vocabulary]
    return [pair for *_, pair in sorted(found)]


def _byte_level(header: Header) -> dict[str, Any]:
    """GPT-2's BPE over bytes: the file has its merges."""
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _WORDS[_pre(header)]}, "behavior": "Isolated", "invert": False}
    whole = _pre(header) == "llama-bpe"  # a word that is a token is taken whole
    return {"normalizer": {"type": "NFC"} if _pre(header) == "qwen2" else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_of]}, "decoder": bytes_of,
            "model": _model(header, header.metadata["tokenizer.ggml.merges"], ignore_merges=whole)}


def _post_processor(header: Header) -> dict[str, Any] | None:
    if (first := first_token(header)) is None:
        return None
    name = header.metadata["tokenizer.ggml.tokens"][first]
    one, two = ({"Sequence": {"id": n, "type_id": i}} for i, n in enumerate("AB"))
    starts = [{"SpecialToken": {"id": name, "type_id": i}} for i in (0, 1)]
    return {"type": "TemplateProcessing", "single": [starts[0], one], "pair": [starts[0], one, starts[1], two],
            "special_tokens": {name: {"id": name, "ids": [first], "tokens": [name]}}}


def _config(header: Header, context_tokens: int) -> dict[str, Any]:
    """The content of tokenizer_config.json. The class is the one that takes tokenizer.json as it is."""
    m = header.metadata
    names = {key: m["tokenizer.ggml.tokens"][m[f"tokenizer.ggml.{field}_token_id"]]
             for key, field in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"),
                                ("pad_token", "padding")) if f"tokenizer.ggml.{field}_token_id" in m}
    adds = first_token(header) is not None
    # llama.cpp puts the first token before a chat as before any text; other engines leave that to the template.
    chat = ("{{- bos_token -}}" if adds else "") + _CHAT_TEMPLATE
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_tokens,
            "clean_up_tokenization_spaces": False, "add_bos_token": adds, "add_eos_token": False, **names,
            "chat_template": m.get("tokenizer.chat_template") or chat}
