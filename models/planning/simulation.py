"""An event simulation of a continuous-batching engine: what a day of requests would see, from how long a step takes.

Requests queue first come, first served for a slot and for room in the KV cache; each step decodes one token of every
running sequence and computes prompt tokens by the engine's policy. While no prompt is being computed the batch stays as
it is until an answer ends or a request comes, so that the simulation jumps there: n steps of a growing KV cache take
n·(step + kv·held) + kv·sequences·n·(n−1)/2 seconds. A day at 10 requests a second is some 3 million jumps.
`models.queueing` is the coarser one of a capacity search, which sees no steps: probes from outside are all it has.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.errors import UserError
from models.identity import Record
from models.planning.steps import Prefill, StepTimes, steps_until
from models.queueing import USER_GAP_S, USERS_WITHIN_S

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Scheduling(Record):
    """How an engine forms its steps. None: no such limit.

    kv_full: a request waits until all of its tokens have room (`waits`), or until its prompt has, and when the cache
    overflows the one admitted last goes back to the queue and is computed again (`preempts`: vLLM).
    """

    slots: int | None = Field(default=None, gt=0, description="sequences in the batch (max_sequences)")
    step_tokens: int | None = Field(default=None, gt=0, description="in one step (max_batched_tokens)")
    chunk_tokens: int | None = Field(default=None, gt=0, description="of one prompt in one step")
    kv_tokens: int | None = Field(default=None, gt=0, description="that the KV cache holds")
    prefill: Prefill = "mixed"
    kv_full: Literal["waits", "preempts"] = "waits"


@dataclass(frozen=True)
class Simulated:
    """What became of each request, arrays of one length, seconds from the start: when it came, left the queue, and had
    its first and its last token. kv_tokens_peak: held at once at the most; preemptions: sequences computed again."""

    arrived_s: Floats
    admitted_s: Floats
    first_s: Floats
    last_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    kv_tokens_peak: int
    preemptions: int

    @property
    def ttft_s(self) -> Floats:
        return self.first_s - self.arrived_s

    @property
    def tpot_s(self) -> Floats:
        """Seconds a token after the first; NaN for answers of one token."""
        gaps = self.output_tokens - 1
        return np.where(gaps > 0, (self.last_s - self.first_s) / np.maximum(1, gaps), np.nan)

    @property
    def e2e_s(self) -> Floats:
        return self.last_s - self.arrived_s

    @property
    def queued_s(self) -> Floats:
        """Until it was first given a slot, the overhead included."""
        return self.admitted_s - self.arrived_s


def open_loop(times: StepTimes, how: Scheduling, arrivals_s: Sequence[float] | Floats,
              input_tokens: Sequence[int] | Ints, output_tokens: Sequence[int] | Ints) -> Simulated:
    """Plays requests that come at those seconds, ascending, whether or not the engine keeps up. Prompts are computed
    whole (nothing is found in a prefix cache), and every answer has all of its tokens.

    Raises UserError for lengths that do not fit, ValueError for arrivals that do not ascend.
    """
    came = np.asarray(arrivals_s, float)
    if len(came) and (np.diff(came) < 0).any():
        raise ValueError("arrivals_s must ascend")
    return _Engine(times, how, (came + times.overhead_s).tolist(), input_tokens, output_tokens, loop=False).play()


def closed_loop(times: StepTimes, how: Scheduling, users: int, input_tokens: Sequence[int] | Ints,
                output_tokens: Sequence[int] | Ints) -> Simulated:
    """Plays requests asked by users who each wait for an answer before they ask again, in the order of time."""
    gap_s = min(USER_GAP_S, USERS_WITHIN_S / users)
    starts = [user * gap_s + times.overhead_s for user in range(min(users, len(input_tokens)))]
    return _Engine(times, how, starts, input_tokens, output_tokens, loop=True).play()


class _Engine:
    """One run. Requests are numbered in the order in which they come. A sequence that decodes is one whole number in a
    heap, (tokens on the engine's clock at its end) · requests + its number: the clock counts tokens a sequence, one for
    all. `held` are the KV tokens of sequences that decode, `reserved` what admission counts beside them."""

    def __init__(self, times: StepTimes, how: Scheduling, starts_s: list[float], input_tokens: Sequence[int] | Ints,
                 output_tokens: Sequence[int] | Ints, loop: bool) -> None:
        self._times, self._how, self._loop, self._came = times, how, loop, starts_s
        self._input, self._output = np.asarray(input_tokens, np.int64), np.asarray(output_tokens, np.int64)
        _check(self._input, self._output, how)
        self._prompt: list[int] = self._input.tolist()   # to be computed and to be answered: of a sequence that is
        self._left: list[int] = self._output.tolist()    # preempted, its answer so far becomes part of its prompt
        self._many = len(self._prompt)
        self._slots = min(how.slots or self._many, self._many)
        self._mixed, self._kv_s = how.prefill == "mixed", times.per_kv_token_s
        self._prompt_s = times.per_prompt_s, times.per_prefill_token_s, times.per_attended_token_s
        self._chunk, self._budget = how.chunk_tokens or math.inf, how.step_tokens or math.inf
        self._decode_s = [times.decode_s(n) for n in range(self._slots + 1)]
        self._preempts = how.kv_tokens is not None and how.kv_full == "preempts"
        self._room = math.inf if how.kv_tokens is None else how.kv_tokens
        self._admitted, self._first, self._last = ([math.nan] * self._many for _ in range(3))
        self._waiting: deque[int] = deque()
        self._prefill: deque[list[int]] = deque()        # number and tokens computed, in the order admitted
        self._decode: list[int] = []
        self._clock = self._held = self._reserved = self._peak = self._preemptions = 0

    def play(self) -> Simulated:
        """Goes from event to event until every request is answered."""
        came, waiting, prefill, decode = self._came, self._waiting, self._prefill, self._decode
        many, slots, decode_s, kv_s, preempts = self._many, self._slots, self._decode_s, self._kv_s, self._preempts
        now, coming, answered = 0.0, 0, 0
        arrival = came[0] if came else math.inf
        while answered < many:
            while arrival <= now:
                waiting.append(coming)
                coming += 1
                arrival = came[coming] if coming < len(came) else math.inf
            running = len(decode)
            then = 0.0
            if waiting and running + len(prefill) < slots:
                if not prefill and len(waiting) == 1:
                    then = self._alone(now)
                if not then:
                    self._admit(now)
            if then:
                now = then
            elif preempts and self._held + self._reserved + running + len(prefill) > self._room:
                self._preempt()
                continue
            elif prefill:
                now += self._prompt_step(now)
            elif running:
                steps = decode[0] // many - self._clock
                slope_s = kv_s * running / 2
                step_s = decode_s[running] + kv_s * self._held - slope_s
                if preempts:
                    steps = min(steps, int(self._room - self._held) // running)
                if running < slots and arrival - now < steps * (step_s + slope_s * steps):
                    steps = steps_until(arrival - now, step_s, slope_s)
                self._clock += steps
                self._held += running * steps
                now += steps * (step_s + slope_s * steps)
            else:
                now = arrival
                continue
            if decode and decode[0] // many == self._clock:
                ended = self._end(now)
                answered += ended
                if self._loop:
                    for _ in range(min(ended, many - len(came))):
                        insort(came, now + self._times.overhead_s, coming)  # users yet to come may come later
                    arrival = came[coming] if coming < len(came) else math.inf
        return self._result()

    def _admit(self, now: float) -> None:
        """Gives slots to whoever waits, in the order they came, while there are any and the KV cache has room."""
        waiting, prefill, prompt = self._waiting, self._prefill, self._prompt
        while waiting and len(self._decode) + len(prefill) < self._slots:
            index = waiting[0]
            takes = prompt[index] + (0 if self._preempts else self._left[index])
            grows = self._held + len(self._decode) + len(prefill) + 1 if self._preempts else 0
            if self._reserved + takes + grows > self._room:
                return
            self._reserved += takes
            prefill.append([waiting.popleft(), 0])
            if self._admitted[index] != self._admitted[index]:
                self._admitted[index] = now

    def _alone(self, now: float) -> float:
        """What `_admit`, `_prompt_step` and `_begin` do, for a prompt that waits alone while none is being computed, as
        most do. Returns the end of its step; 0 where it fits not into one, or not into the cache."""
        index, running, held = self._waiting[0], len(self._decode), self._held
        tokens, left, mixed = self._prompt[index], self._left[index], running if self._mixed else 0
        takes = tokens + running + held + 1 if self._preempts else tokens + left + self._reserved
        if tokens > self._chunk or tokens > self._budget - mixed or takes > self._room:
            return 0.0
        self._waiting.popleft()
        prompt_s, token_s, attended_s = self._prompt_s
        seconds = prompt_s + token_s * tokens + attended_s * tokens * ((tokens + 1) / 2) + self._decode_s[mixed]
        if mixed:
            seconds += self._kv_s * held
            self._clock += 1
        if self._admitted[index] != self._admitted[index]:
            self._admitted[index] = now
        if self._first[index] != self._first[index]:
            self._first[index] = now + seconds
        if not self._preempts:
            self._reserved += tokens + left
        self._held = held + mixed + tokens + 1
        heapq.heappush(self._decode, (self._clock + left - 1) * self._many + index)
        return now + seconds

    def _prompt_step(self, now: float) -> float:
        """Plays a step that computes prompts and returns its seconds."""
        prefill, prompt, limit, budget = self._prefill, self._prompt, self._chunk, self._budget
        prompt_s, token_s, attended_s = self._prompt_s
        running, seconds, finished = len(self._decode) if self._mixed else 0, 0.0, list[int]()
        for entry in prefill:
            index, before = entry
            tokens = prompt[index] - before
            if tokens > limit or tokens > budget - running:
                tokens = int(min(tokens, limit, budget - running))
                if tokens <= 0:
                    break
            else:
                finished.append(index)
            seconds += prompt_s + token_s * tokens + attended_s * tokens * (before + (tokens + 1) / 2)
            budget -= tokens
            entry[1] = before + tokens
        seconds += self._decode_s[running]
        if running:
            seconds += self._kv_s * self._held
            self._clock += 1
            self._held += running
        if len(finished) == len(prefill):
            prefill.clear()
        else:
            left = [entry for entry in prefill if entry[1] < prompt[entry[0]]]
            prefill.clear()
            prefill.extend(left)
        for index in finished:
            self._begin(index, now + seconds)
        return seconds

    def _begin(self, index: int, now: float) -> None:
        """A prompt is computed: its first token is there, and the sequence decodes from the next step on."""
        if self._preempts:
            self._reserved -= self._prompt[index]
        if self._first[index] != self._first[index]:
            self._first[index] = now
        self._held += self._prompt[index] + 1
        heapq.heappush(self._decode, (self._clock + self._left[index] - 1) * self._many + index)

    def _end(self, now: float) -> int:
        """Ends the sequences that have all their tokens, and returns how many."""
        decode, many, ended = self._decode, self._many, 0
        self._peak = max(self._peak, self._held)
        while decode and decode[0] // many == self._clock:
            index = heapq.heappop(decode) % many
            self._last[index] = now
            tokens = self._prompt[index] + self._left[index]
            self._held -= tokens
            if not self._preempts:
                self._reserved -= tokens
            ended += 1
        return ended

    def _preempt(self) -> None:
        """Sends back whoever came last; what it had answered is computed again as part of its prompt."""
        self._peak = max(self._peak, self._held)
        self._preemptions += 1
        if self._prefill:
            index = self._prefill.pop()[0]
            self._reserved -= self._prompt[index]
        else:
            entry = max(self._decode, key=lambda one: one % self._many)
            self._decode.remove(entry)
            heapq.heapify(self._decode)
            index, left = entry % self._many, entry // self._many - self._clock
            self._prompt[index] += self._left[index] - left
            self._left[index] = left
            self._held -= self._prompt[index]
        self._waiting.appendleft(index)

    def _result(self) -> Simulated:
        came = np.asarray(self._came, float) - self._times.overhead_s
        return Simulated(came, np.array(self._admitted), np.array(self._first), np.array(self._last), self._input,
                         self._output, self._peak, self._preemptions)


def _check(input_tokens: Ints, output_tokens: Ints, how: Scheduling) -> None:
    if input_tokens.shape != output_tokens.shape or (input_tokens < 1).any() or (output_tokens < 1).any():
        raise UserError("input_tokens, output_tokens: as many of one as of the other, each at least 1")
    longest = int((input_tokens + output_tokens).max(initial=0))
    if how.kv_tokens is not None and longest > how.kv_tokens:
        raise UserError(f"kv_tokens: the KV cache holds {how.kv_tokens} tokens and the longest request has {longest}")
