"""Speed, as ratios of one run: to the torch reference, and to what the machine itself can do.

A row is one operation at one size on one backend. Throughputs mean little from machine to machine
(or from hour to hour on a shared one), so every row is also told as a multiple of the reference's
throughput and as a share of the matrix product, memory copy and gather rates of the same run.
"""

from .report import SUITES, bench

__all__ = ["SUITES", "bench"]
