"""A simulator that plays every step: what models.planning.simulation must give, without a jump or a closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from models.planning.simulation import Scheduling
from models.planning.steps import StepTimes


@dataclass(eq=False)
class Sequence:
    """Of the simulator that plays every step."""

    index: int
    prompt: int
    left: int
    computed: int = 0
    held: int = 0
    first: float = math.nan


@dataclass
class Naive:
    """The engine, one step after another."""

    times: StepTimes
    how: Scheduling
    waiting: list[Sequence] = field(default_factory=list)
    prefill: list[Sequence] = field(default_factory=list)
    decode: list[Sequence] = field(default_factory=list)
    advanced: list[Sequence] = field(default_factory=list)
    preemptions: int = 0

    def play(self, came: list[float], prompts: list[int], outputs: list[int],
             ) -> tuple[list[float], list[float], list[list[float]]]:
        """Returns the first and the last token of each request, and all of them."""
        first, last, tokens = [math.nan] * len(came), [math.nan] * len(came), [list[float]() for _ in came]
        now, coming = 0.0, 0
        while coming < len(came) or self.waiting or self.prefill or self.decode:
            while coming < len(came) and came[coming] <= now:
                self.waiting.append(Sequence(coming, prompts[coming], outputs[coming]))
                coming += 1
            self.admit()
            if not self.prefill and not self.decode:
                now = came[coming]
                continue
            if self.overflows():
                self.preempt()
                continue
            now += self.step()
            for one in self.advanced:
                tokens[one.index].append(now)
                if math.isnan(first[one.index]):
                    first[one.index] = now
                if one.left == 0:
                    last[one.index] = now
                    self.decode.remove(one)
        return first, last, tokens

    @property
    def preempts(self) -> bool:
        return self.how.kv_tokens is not None and self.how.kv_full == "preempts"

    def admit(self) -> None:
        while self.waiting and len(self.decode) + len(self.prefill) < (self.how.slots or 10**9):
            one, inside = self.waiting[0], self.prefill + self.decode
            if self.preempts:
                held = sum(p.prompt for p in self.prefill) + sum(d.held for d in self.decode)
                needs = held + len(inside) + 1 + one.prompt
            else:
                needs = sum(x.prompt + x.left + (x.held - x.prompt if x in self.decode else 0) for x in [*inside, one])
            if needs > (self.how.kv_tokens or 10**9):
                return
            self.prefill.append(self.waiting.pop(0))

    def overflows(self) -> bool:
        held = sum(p.prompt for p in self.prefill) + sum(d.held for d in self.decode)
        return self.preempts and held + len(self.prefill) + len(self.decode) > (self.how.kv_tokens or 0)

    def preempt(self) -> None:
        one = self.prefill.pop() if self.prefill else max(self.decode, key=lambda d: d.index)
        if one in self.decode:
            self.decode.remove(one)
            one.prompt = one.held
        one.computed = one.held = 0
        self.waiting.insert(0, one)
        self.preemptions += 1

    def step(self) -> float:
        decoding = [*self.decode] if self.how.prefill == "mixed" or not self.prefill else []
        was = [*self.decode]
        seconds = self.times.decode_s(len(decoding)) + self.times.per_kv_token_s * sum(d.held for d in decoding)
        budget = (self.how.step_tokens or 10**9) - (len(decoding) if self.how.prefill == "mixed" else 0)
        for one in [*self.prefill]:
            tokens = min(one.prompt - one.computed, self.how.chunk_tokens or 10**9, budget)
            if tokens <= 0:
                break
            seconds += self.times.per_prompt_s + self.times.per_prefill_token_s * tokens
            seconds += self.times.per_attended_token_s * sum(one.computed + i + 1 for i in range(tokens))
            one.computed += tokens
            budget -= tokens
            if one.computed == one.prompt:
                self.prefill.remove(one)
                self.decode.append(one)
                one.held, one.left = one.prompt + 1, one.left - 1
        self.advanced = [*decoding, *(one for one in self.decode if one not in was)]
        for one in decoding:
            one.held, one.left = one.held + 1, one.left - 1
        return seconds
