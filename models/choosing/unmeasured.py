"""Where nothing measured fits: what a formula says, and the experiment that would settle it."""

from __future__ import annotations

from models.choosing.answer import Answer
from models.choosing.evidence import Evidence
from models.choosing.traffic import Traffic


def added(answer: Answer, asked: Traffic, evidence: Evidence) -> Answer:
    """The answer with estimates and an experiment file."""
    return answer
