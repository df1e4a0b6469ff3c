"""What would change the answer: the same question asked again with other traffic, limits, price and quality.

The price is that of the winner's hardware: if all prices rose alike, the cheapest would stay the cheapest.
"""

from __future__ import annotations

from models.choosing.answer import Answer, Change, Choice
from models.choosing.choose import winner
from models.choosing.evidence import Evidence
from models.choosing.question import Question
from models.choosing.traffic import Known

TRAFFIC, STRICTER, DEARER = 2.0, 0.8, 1.3


def added(answer: Answer, evidence: Evidence, known: Known) -> Answer:
    """The answer with what would make another stack win, and what would not."""
    best = answer.best
    if best is None:
        return answer
    changes, unchanged = [], []
    for what, asked in variants(answer.question, best):
        again = winner(asked, evidence, known)
        if again is not None and again.stack.setup_id == best.stack.setup_id:
            unchanged.append(what)
        elif again is None:
            changes.append(Change(what=what, winner=None))
        else:
            changes.append(Change(what=what, winner=again.label, setup_id=again.stack.setup_id,
                                  instances=again.instances, usd_per_month=again.usd_per_month if again.load else None))
    return answer.model_copy(update={"changes": tuple(changes), "unchanged": tuple(unchanged)})


def variants(asked: Question, best: Choice) -> list[tuple[str, Question]]:
    """Each what-if in words, and the question that it makes."""
    found: list[tuple[str, dict[str, object]]] = []
    if asked.request_rate is not None:
        found.append(("traffic ×2", {"request_rate": asked.request_rate * TRAFFIC}))
    if asked.concurrency is not None:
        found.append(("traffic ×2", {"concurrency": asked.concurrency * TRAFFIC}))
    stricter = " ".join(f"{x.metric}<={x.at_most * STRICTER:.6g}" for x in asked.bounds)
    dearer = {"price_factor": DEARER, "price_factor_on": best.machine.hardware_id}
    found += [("limits 20 % lower", {"limits": stricter}), (f"{best.machine.label} 30 % dearer", dearer)]
    if floor := best.stack.kl_nats:
        found.append((f"quality: divergence below {floor:.2g} nats", {"kl_nats_max": floor * 0.999}))
    return [(what, asked.model_copy(update=update)) for what, update in found]
