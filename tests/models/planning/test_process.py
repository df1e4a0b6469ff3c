"""The Gaussian process against the formulas worked by hand, by finite differences, and by leaving out for real."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from models.planning import process
from models.planning.process import Part, Points, Process, Scales


def some(rows: int, seed: int = 0) -> tuple[Points, process.Floats]:
    source = np.random.default_rng(seed)
    x = source.normal(size=(rows, 3))
    engine = source.integers(0, 2, rows)
    return (Points(x, {"engine": engine, "model": source.integers(0, 3, rows)}),
            np.sin(x[:, 0]) + 0.5 * engine + 0.01 * source.normal(size=rows))


PARTS = (Part((), (0, 1, 2)), Part(("engine",), (0, 1)), Part(("engine", "model"), ()))


def test_one_row_by_hand() -> None:
    """Variance 2 and noise 0.5 at a distance r with √3 r = 1: covariance 2 · 2/e, and the weight of the row 1/2.5."""
    scales = Scales((Part((), (0,)),), np.log([1.0, 2.0, 0.5]))
    known = Process(scales, Points(np.zeros((1, 1)), {}), np.array([3.0]))
    mean, sd = known.predict(Points(np.array([[1 / np.sqrt(3)], [1e6]]), {}))
    k = 2 * 2 / np.e
    assert mean == pytest.approx([k / 2.5 * 3, 0], rel=1e-6, abs=1e-9)
    assert sd == pytest.approx([np.sqrt(2.5 - k * k / 2.5), np.sqrt(2.5)], rel=1e-6)


def test_a_new_label_shares_nothing() -> None:
    scales = Scales((Part(("engine",), (0,)),), np.log([1.0, 2.0, 0.01]))
    known = Process(scales, Points(np.zeros((1, 1)), {"engine": np.array([0])}), np.array([3.0]))
    mean, sd = known.predict(Points(np.zeros((3, 1)), {"engine": np.array([0, 1, -1])}))
    assert mean[0] == pytest.approx(3, rel=0.01)
    assert mean[1:].tolist() == [0, 0]
    assert sd[1] == sd[2] == pytest.approx(known.prior_sd)
    assert sd[0] < 0.2


def test_the_gradient_is_that_of_the_likelihood() -> None:
    points, values = some(25)
    at = np.random.default_rng(1).normal(-2, 0.5, 5 + 3 + 1)

    def unlikelihood(logs: process.Floats) -> float:
        return process._unlikelihood(Scales(PARTS, logs), points, values)[0]
    assert process._unlikelihood(Scales(PARTS, at), points, values)[1] == pytest.approx(
        approx_fprime(at, unlikelihood, 1e-6), rel=1e-3, abs=1e-3)


def test_left_out_at_once_is_left_out_for_real() -> None:
    points, values = some(40)
    scales = process.learn(PARTS, points, values)
    out, rest = np.arange(10), np.arange(10, 40)
    error, sd = process.left_out(Process(scales, points, values).inverse(), values, out)
    mean, real_sd = Process(scales, points.take(rest), values[rest]).predict(points.take(out))
    assert error == pytest.approx(values[out] - mean, abs=1e-5)
    assert sd == pytest.approx(real_sd, rel=1e-4)


def test_it_learns_what_matters() -> None:
    points, values = some(150)
    scales = process.learn(PARTS, points, values, rounds=60)
    mean, sd = Process(scales, points, values).predict(some(50, seed=9)[0])
    assert np.abs(mean - some(50, seed=9)[1]).mean() < 0.1
    widths = np.exp(scales.values[:3])
    assert widths[0] > 3 * max(widths[1:])  # only the first column decides
    assert (np.abs(mean - some(50, seed=9)[1]) < 1.645 * sd).mean() >= 0.8
