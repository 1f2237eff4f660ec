"""What this machine can do at best, by torch: the rates that the kernels are held against."""

import torch

from .timing import Timing, in_turns

GEMM = 1024  # edge of the matrices
COPY_BYTES = 256 << 20
GATHER_ROWS, GATHERED = 1 << 22, 1 << 19  # records of 64 bytes, far more than the caches hold


def measure(budget: float, place: torch.device) -> dict[str, float]:
    """Rates of this moment of the device `place`, with torch's threads.

    Args:
        budget: seconds for each.

    Returns:
        sgemm_gflops: 1e9 float32 operations a second of a matrix product, 2 n^3 each;
        memcpy_gbs: 1e9 bytes a second of a copy, read and written bytes both counted;
        gather_mrows: 1e6 random records of 64 bytes a second.
    """
    on = {"device": place}
    a, b = torch.rand(GEMM, GEMM, **on), torch.rand(GEMM, GEMM, **on)
    product = torch.empty(GEMM, GEMM, **on)
    source = torch.zeros(COPY_BYTES // 4, **on)
    target = torch.ones(COPY_BYTES // 4, **on)
    table = torch.zeros(GATHER_ROWS, 16, **on)
    generator = torch.Generator(place).manual_seed(0)
    rows = torch.randint(GATHER_ROWS, (GATHERED,), generator=generator, **on)
    gathered = torch.empty(GATHERED, 16, **on)
    timings: dict[str, Timing] = in_turns(
        {
            "sgemm": lambda _: torch.mm(a, b, out=product),
            "memcpy": lambda _: target.copy_(source),
            "gather": lambda _: torch.index_select(table, 0, rows, out=gathered),
        },
        prepare=lambda: None,
        budget=budget,
    )
    return {
        "sgemm_gflops": 2 * GEMM**3 / timings["sgemm"].median / 1e9,
        "memcpy_gbs": 2 * COPY_BYTES / timings["memcpy"].median / 1e9,
        "gather_mrows": GATHERED / timings["gather"].median / 1e6,
    }
