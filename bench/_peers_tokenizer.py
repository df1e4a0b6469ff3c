"""A Hugging Face tokenizer folder made without a download: the peers do not start without one.

Byte-level BPE over printable ASCII whose merges make 2 000 words of two syllables: any text has tokens, and decoding
gives back what was encoded.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

_SPACE = "Ġ"  # GPT-2's letter for a space in byte-level vocabularies
_SYLLABLES = tuple(a + b for a, b in itertools.product("bdfgklmnprstvz", "aeiou"))
_WORDS = tuple(itertools.islice(itertools.product(_SYLLABLES, _SYLLABLES), 2000))


def write(folder: Path) -> Path:
    """Writes tokenizer.json, tokenizer_config.json and config.json; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [_SPACE, *(chr(c) for c in range(0x21, 0x7F))]
    merges = [[s[0], s[1]] for s in _SYLLABLES] + [[a, b] for a, b in _WORDS] + [[_SPACE, a + b] for a, b in _WORDS]
    tokens = ["<s>", "</s>", *letters, *("".join(m) for m in merges)]
    special = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in (0, 1)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    documents = {
        "tokenizer.json": {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>",
            "model_max_length": 1_000_000, "clean_up_tokenization_spaces": False},
        "config.json": {"model_type": "gpt2", "vocab_size": len(tokens), "bos_token_id": 0, "eos_token_id": 1},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document))
    return folder
