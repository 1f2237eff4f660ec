"""Speed, quality against time, and memory, held against what the machine itself can do.

A `Figure` is one number: an operation at one size on one backend. Throughputs mean little from
machine to machine (or from hour to hour on a shared one), so each is also told as a multiple of the
torch reference's and as a share of the ceiling that binds it: the matrix product, copy or gather
rate measured in the same run.

    case       an operation, its inputs, and the least it must do (work)
    gate       results against the reference's, before anything is timed
    measure    a case's figures (timing, ceilings, pace)
    suites     which cases: ops, fit, render, sr, memory, scaling
    report     all of it, in several passes: tables, JSON, plots (curves, plots), compare
"""

from .effort import FULL, QUICK, Effort
from .report import bench, compare_files
from .suites import SUITES

__all__ = ["FULL", "QUICK", "SUITES", "Effort", "bench", "compare_files"]
