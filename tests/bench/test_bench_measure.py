"""Times in turns, right results first, shares that are work over time over rate."""

import pytest
import torch
from made_up_machine import rates

from nerfkit.bench import gate, measure, ops, pace, timing, work
from nerfkit.bench.case import Case
from nerfkit.bench.ceilings import UNITS, Ceilings
from nerfkit.bench.figure import Figure
from nerfkit.bench.passes import merged
from nerfkit.bench.subject import Subject
from nerfkit.bench.timing import Timing


def test_ways_take_turns_with_fresh_arguments(monkeypatch):
    monkeypatch.setattr(timing, "MOST", 4)
    seen, made = [], iter(range(100))
    ways = {name: lambda x, name=name: seen.append((name, x)) for name in "ab"}
    timings = timing.in_turns(ways, lambda: next(made), budget=1e9)
    assert seen == [("ab"[i % 2], i) for i in range(10)]
    assert [t.repeats for t in timings.values()] == [4, 4]


def test_a_timing_is_the_median_and_the_quartiles():
    assert Timing.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Timing(3.0, 2.0, 4.0, 5)


def copying(**options) -> Case:
    """Copies 4000 bytes, or, as the backend `off`, adds one to what it copies."""

    def run(backend, x):
        return x + 1 if backend == "off" else x.clone()

    inputs = {"x": torch.arange(1000.0)}
    return Case("copy", "copy", "1000", 1000, "numbers", inputs, run, **options)


def test_the_share_is_that_of_the_ceiling_that_binds(monkeypatch):
    timings = {"a": Timing(2.0, 1.9, 2.2, 3), "b": Timing(0.5, 0.5, 0.5, 3)}
    pieces = {measure.PIECES: Timing(4.0, 3.0, 5.0, 3)}
    monkeypatch.setattr(measure, "in_turns", lambda *_: timings | pieces)
    monkeypatch.setattr(measure.pace, "repeated", lambda one, seconds: (one, 2))
    case = copying(flops=1e9, gathers=1e6, backends=("a", "b"), half=("b",))
    a, b = measure.measure("ops", case, rates(), 0.0, 2, 1)
    # least seconds: copy 8000 / 10e9, product 1e9 / 50e9, look-ups 1e6 / 20e6
    assert (a.ceiling, a.share) == ("gather", pytest.approx(0.05 / 2))
    assert (b.throughput, b.speed_up) == (2000, 4)
    assert a.pace == {"of": "gather", "median": 2.0, "low": 1.5, "high": 2.5}
    product = work.Work(flops=1e9)
    assert product.bound(rates(), half=True) == ("bf16", pytest.approx(0.01))
    assert work.Work().bound(rates(), half=False) is None


@pytest.mark.parametrize("ceiling", list(UNITS))
def test_pieces_of_a_ceiling_fill_the_time_they_are_given(ceiling):
    calls = []
    several, count = pace.repeated(lambda: calls.append(0), 1e-3)
    several(None)
    assert len(calls) == 2 + count and count > 1
    assert pace.piece(ceiling, torch.device("cpu"))().numel() > 0
    assert len(pace.sample(ceiling, torch.device("cpu"), 0.0)) == pace.SAMPLES
    assert pace.repeated(pace.piece(ceiling, torch.device("cpu")), 0.0)[1] == 1


def test_wrong_results_are_found_and_not_timed():
    right, wrong = measure.measure("ops", copying(backends=("a", "off")), rates(), 0.0, 2, 1)
    assert not right.wrong and right.value > 0
    assert wrong.wrong and wrong.value is None and wrong.speed_up is None


@pytest.mark.parametrize(
    ("got", "wanted", "error"),
    [
        ([torch.tensor([1.0, 2.0])], [torch.tensor([1.0, 3.0])], [0.25]),
        ([torch.tensor([1.0])], [torch.tensor([1.0, 1.0])], [float("inf")]),
        ([torch.tensor([float("nan")])], [torch.tensor([1.0])], [float("inf")]),
        ([torch.tensor([float("inf"), 1.0])], [torch.tensor([float("inf"), 1.0])], [0.0]),
        ([], [torch.tensor([1.0])], []),
    ],
)
def test_relative_errors(got, wanted, error):
    assert gate.relative_errors(got, wanted) == error


def test_ceilings_are_measured_once_for_each_number_of_threads():
    ceilings = Ceilings(torch.device("cpu"), budget=0.0)
    found = ceilings.at(1)
    assert ceilings.at(1) is found and list(ceilings.seen) == [1]
    assert set(found) == set(UNITS)
    assert all(0 < r.low <= r.median <= r.high for r in found.values())


def test_passes_become_one_with_ranges_that_cover_them():
    def figure(value, low, high, pace, **more):
        ends = {"median": pace, "low": 0.9 * pace, "high": 1.1 * pace}
        return Figure(
            *("ops", "a", "1", "cpu", "forward", 1, "s", value, low, high, 5),
            **{"throughput": 12 / value, "share": 0.6 / value, "pace": {"of": "sgemm", **ends}},
            **more,
        )

    passes = [[figure(2.0, 1.9, 2.5, 1.0)], [figure(4.0, 3.5, 4.1, 3.0)]]
    (one,) = merged(passes)
    assert (one.value, one.low, one.high, one.repeats) == (3.0, 1.9, 4.1, 10)
    assert (one.throughput, one.share) == (4.0, pytest.approx(0.2))
    assert one.pace == {"of": "sgemm", "median": 3.0, "low": 0.9, "high": pytest.approx(3.3)}
    wrong = [figure(4.0, 3.5, 4.1, 3.0, wrong=True)]
    assert merged([passes[0], wrong]) == wrong


def test_the_ball_is_thin_and_opaque():
    subject = Subject.ball(5, n_levels=2)
    render, fit = ops.fused.cases(subject, 512)
    layers = zip(subject.widths[:-1], subject.widths[1:], strict=True)
    shaded = fit.flops / 3 / (2 * sum(i * o for i, o in layers)) / 512
    assert 1 < shaded < 8  # samples with a colour, a ray
    assert (render.run("reference", **render.inputs)[2] > 0.95).float().mean() > 0.9
