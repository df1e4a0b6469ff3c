"""The words of a run's prompts: random, each session's its own, alike only where the workload says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.specs import Workload
from workloads.schedule import Plan, prefix_tokens
from workloads.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]

RIVER_WORDS = 50_000


class River:
    """One long text of random words. Its first `common` words are what prompts share; every stretch starts behind them,
    at a place of its own, so that no two stretches begin alike."""

    def __init__(self, words: tuple[str, ...], seed: int, common: int, stretches: int, longest: int) -> None:
        rng = np.random.Generator(np.random.PCG64(seed))
        places = max(RIVER_WORDS, 4 * stretches)
        drawn = [words[i] for i in rng.integers(len(words), size=common + places + longest).tolist()]
        self._text = " ".join(drawn)
        self._at = np.concatenate([[0], np.cumsum([len(w) + 1 for w in drawn])]).tolist()
        self.starts: list[int] = (common + rng.choice(places, size=stretches, replace=False)).tolist()

    def words(self, start: int, count: int) -> str:
        """Returns `count` words, at least one, from the start-th on."""
        return self._text[self._at[start]:self._at[start + count] - 1]


@dataclass(frozen=True)
class Session:
    """A session's text: `heads` are stretches of the river (start, words) that others have too, then come words that
    no other has. Its first `common` words are those that all sessions share."""

    river: River
    heads: tuple[tuple[int, int], ...]
    own: int
    common: int = 0

    def text(self, first: int, count: int) -> str:
        """Returns `count` words from the first-th on."""
        parts = []
        for start, size in self.heads:
            take = min(size - first, count)
            if take > 0:
                parts.append(self.river.words(start + first, take))
                first, count = 0, count - take
            else:
                first -= min(first, size)
        if count > 0:
            parts.append(self.river.words(self.own + first, count))
        return " ".join(parts)


Row = tuple[Session, int, int, int]
"""Session, turn, tokens that are new beside the session's common words, tokens of the answer."""


def rows(plan: Plan, workload: Workload, vocabulary: Vocabulary, before: int, beside: int) -> Iterator[Row]:
    """Yields the requests of a plan with their sessions' texts. before, beside: tokens of a first prompt that the
    server puts in front of its words (where they are shared too), and all that are not its words."""
    requests = plan.requests
    new, turn = requests["new_tokens"].to_numpy(), requests["turn"].to_numpy()
    common = _common_words(workload, vocabulary, new, before, beside)
    listed = requests["blocks"] if "blocks" in requests.columns else None
    edges, blocks = _blocks(workload, vocabulary, listed)
    sessions = int((turn == 0).sum())
    in_length = workload.shared_prefix_share is not None
    river = River(vocabulary.words, plan.text_seed, int(common.max(initial=0)), sessions + blocks,
                  vocabulary.count(plan.longest_tokens) + workload.turns)
    own = new - (common * (turn == 0) * vocabulary.tokens_per_word).astype(np.int64) * in_length
    for i, (number, at, out) in enumerate(requests.select("session", "turn", "output_tokens_planned").iter_rows()):
        if at == 0:
            shared = int(common[i])
            heads = [(0, shared)] if shared else []
            if listed is not None:
                heads = [(river.starts[sessions + block], edges[j + 1] - edges[j])
                         for j, block in enumerate(listed[i].to_list())]
            session = Session(river, tuple(heads), river.starts[number], shared)
        yield session, at, int(own[i]), out


def _common_words(workload: Workload, vocabulary: Vocabulary, new: Ints, before: int, beside: int) -> Ints:
    """Words that each session, if it begins with that request, has in common with all others; of a prompt that is all
    shared, the last word is its own."""
    if workload.shared_prefix_share:
        per_word = vocabulary.tokens_per_word
        most = np.maximum(0, np.rint((new - beside) / per_word) - 1)
        words = np.rint((new * workload.shared_prefix_share - before) / per_word)
        return np.asarray(np.clip(words, 0, most), np.int64)
    prefix = prefix_tokens(workload)
    return np.full(len(new), vocabulary.count(prefix) if prefix else 0)


def _blocks(workload: Workload, vocabulary: Vocabulary, listed: pl.Series | None) -> tuple[list[int], int]:
    """Returns at which word of a prompt each of its blocks begins, and how many different blocks there are."""
    if listed is None or workload.trace is None:
        return [], 0
    most = max(listed.list.len().to_list(), default=0)
    words = workload.trace.block_tokens * workload.input_scale / vocabulary.tokens_per_word
    return np.rint(np.arange(most + 1) * words).astype(np.int64).tolist(), listed.explode().drop_nulls().n_unique()
