"""Ceilings of a machine that does not exist, for tests of what is held against them."""

from nerfkit.bench.ceilings import UNITS, Rate, Rates


def rates(scale: float = 1.0) -> Rates:
    """Ceilings of a made-up machine, known to 2 %."""
    medians = {"sgemm": 50e9, "bf16": 100e9, "memcpy": 10e9, "gather": 20e6}
    return {
        name: Rate(scale * m, 0.99 * scale * m, 1.01 * scale * m, UNITS[name])
        for name, m in medians.items()
    }
