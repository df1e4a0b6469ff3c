"""How wrong zero-shot prediction and the bare roofline are on the public measurements."""

from __future__ import annotations

from collections.abc import Sequence

from flows.public_stacks import measured
from models.accuracy import ErrorFigure, figure
from models.planning import leaving_out
from models.planning.roofline import tpot_ms
from models.planning.zero_shot import Measured, Prediction
from models.progress import Progress, silent

WAYS = {"a configuration": "curve", "a stack": "stack", "a model": "model", "a GPU": "chip"}
"""What is left out, and its label. A configuration is engine, model, GPU, precision, parallelism and lengths, of any
version and at any concurrency; a stack is the same at any lengths. Two names of one shape are one model."""
_FOLDED = ("curve", "stack")
_FOLDS = 20
_SOURCE = "public aggregated-serving rows (aiconfigurator-core)"


def groups(rows: Sequence[Measured], label: str, folds: int = _FOLDS) -> list[str]:
    """What is left out together: folds of the many configurations and stacks, each model and GPU by itself."""
    return leaving_out.by_folds(rows, label, folds) if label in _FOLDED else leaving_out.by_label(rows, label)


def figures(progress: Progress = silent, ways: Sequence[str] = tuple(WAYS)) -> list[ErrorFigure]:
    """Errors of TPOT on all public rows: minutes, for the model is learnt anew for every fold, model and GPU.

    Raises UserError when aiconfigurator-core is not installed.
    """
    rows = measured()
    found = [roofline(rows)]
    for way in ways:
        left = groups(rows, WAYS[way])
        found += [physics(rows, left, way),
                  zero_shot(rows, leaving_out.leave_out(rows, left, progress=progress), way)]
    return found


def roofline(rows: Sequence[Measured]) -> ErrorFigure:
    """The bare roofline with fixed shares of the peaks; it was fitted on nothing."""
    predicted = [tpot_ms(s.stack, s.batch, s.input_tokens, s.output_tokens) for s in (row.setting for row in rows)]
    return figure("tpot", "architecture", "roofline, fixed utilisation", _SOURCE, predicted, _measured(rows))


def physics(rows: Sequence[Measured], left: Sequence[str], way: str) -> ErrorFigure:
    """Learnt coefficients of the roofline's terms, and nothing else."""
    return figure("tpot", "zero-shot", "Σ factor · roofline term", f"{_SOURCE}, leaving {way} out",
                  leaving_out.physics_alone(rows, left), _measured(rows))


def zero_shot(rows: Sequence[Measured], predicted: Sequence[Prediction], way: str) -> ErrorFigure:
    """The whole model, of predictions made without what is left out."""
    return figure("tpot", "zero-shot", "Σ factor · roofline term × exp(Gaussian process)",
                  f"{_SOURCE}, leaving {way} out", [one.value for one in predicted], _measured(rows),
                  [(one.low, one.high) for one in predicted])


def _measured(rows: Sequence[Measured]) -> list[float]:
    return [row.tpot_ms for row in rows]
