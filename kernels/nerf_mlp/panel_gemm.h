// Matrix products over a tile of samples, for layers of some hundred units.
//
// A tile is cut into panels of LANES samples: X[panel][feature][LANES], each panel one contiguous
// piece that stays in L1 while the weights stream by. Weights are packed once for many tiles:
// blocks of ROWS rows, each [k][ROWS], the last block with the rows that are left.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "fused_mlp/micro_gemm.h"
#include "shared/simd.h"

namespace nk {
namespace panel {

constexpr int LANES = 2 * VL;  // samples of a panel
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ROWS = 12;  // 24 sums in 32 vector registers
#else
constexpr int ROWS = 6;  // 12 sums in 16
#endif

constexpr int64_t count(int64_t n) { return (n + LANES - 1) / LANES; }

// packed: m * k floats from A[i][j] = a[i * row + j * col], i < m, j < k.
inline void pack(const float* a, int64_t row, int64_t col, int m, int k, float* packed) {
    for (int first = 0; first < m; first += ROWS) {
        const int rows = m - first < ROWS ? m - first : ROWS;
        // In the order of `a` in memory: rows a power of two apart fall on the same cache lines.
        if (row == 1)
            for (int j = 0; j < k; ++j)
                for (int i = 0; i < rows; ++i) packed[j * rows + i] = a[first + i + j * col];
        else
            for (int i = 0; i < rows; ++i)
                for (int j = 0; j < k; ++j) packed[j * rows + i] = a[(first + i) * row + j * col];
        packed += int64_t(rows) * k;
    }
}

// M rows of a panel of C from all k rows of one of B, by packed rows of A. `extra` is the bias of
// each row for kBias, and for kMask what has the place of C in the activations.
template <int F, int M>
inline __attribute__((always_inline)) void block(const float* __restrict a,
                                                 const float* __restrict b, float* __restrict c,
                                                 int k, const float* __restrict extra) {
    vf sum[M][2];
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v)
            sum[i][v] = F & kAccumulate ? load(c + i * LANES + v * VL)
                        : F & kBias     ? splat(extra[i])
                                        : vf{};
#pragma GCC unroll 4
    for (int kk = 0; kk < k; ++kk) {
        const vf b0 = load(b), b1 = load(b + VL);
#pragma GCC unroll 12
        for (int i = 0; i < M; ++i) {
            const vf ai = splat(a[i]);
            sum[i][0] += ai * b0;
            sum[i][1] += ai * b1;
        }
        a += M;
        b += LANES;
    }
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
            const int at = i * LANES + v * VL;
            vf r = sum[i][v];
            if (F & kRelu) r = max(r, vf{});
            if (F & kMask) r = select(load(extra + at) > vf{}, r, vf{});
            store(c + at, r);
        }
}

// M rows of a column panel of dW += G X^T: samples [panels * LANES][LANES] is X sample-major.
template <int M>
inline __attribute__((always_inline)) void outer_block(const float* __restrict g, int64_t g_panel,
                                                       const float* __restrict samples,
                                                       int panels, float* __restrict dw) {
    vf sum[M][2];
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i) {
        sum[i][0] = load(dw + i * LANES);
        sum[i][1] = load(dw + i * LANES + VL);
    }
    for (int p = 0; p < panels; ++p) {
        // The next panel's rows are far away: no hardware prefetcher expects them.
#pragma GCC unroll 24
        for (int i = 0; i < M * LANES; i += 16) __builtin_prefetch(g + g_panel + i);
#pragma GCC unroll 4
        for (int s = 0; s < LANES; ++s) {
            const vf b0 = load(samples), b1 = load(samples + VL);
#pragma GCC unroll 12
            for (int i = 0; i < M; ++i) {
                const vf gi = splat(g[i * LANES + s]);
                sum[i][0] += gi * b0;
                sum[i][1] += gi * b1;
            }
            samples += LANES;
        }
        g += g_panel;
    }
#pragma GCC unroll 12
    for (int i = 0; i < M; ++i) {
        store(dw + i * LANES, sum[i][0]);
        store(dw + i * LANES + VL, sum[i][1]);
    }
}

// Calls body with std::integral_constant<int, rows>, rows in [1, M].
template <int M = ROWS, class Body>
inline __attribute__((always_inline)) void with_rows(int rows, const Body& body) {
    if (rows == M)
        body(std::integral_constant<int, M>{});
    else if constexpr (M > 1)
        with_rows<M - 1>(rows, body);
}

// C = epilogue(A B) for each of `panels` panels; *_panel are the floats from one to the next, that
// of `extra` (kMask) the activations'.
template <int F>
void product(const float* packed, int m, int k, const float* b, int64_t b_panel, float* c,
             int64_t c_panel, int panels, const float* extra, int64_t extra_panel = 0) {
    const int whole = m / ROWS * ROWS;
    for (int p = 0; p < panels; ++p) {
        const float* a = packed;
        const int scale = F & kMask ? LANES : 1;
        for (int i = 0; i < whole; i += ROWS, a += int64_t(ROWS) * k)
            block<F, ROWS>(a, b, c + i * LANES, k, extra + i * scale);
        if (whole < m)
            with_rows<ROWS - 1>(m - whole, [&](auto rows) {
                block<F, rows()>(a, b, c + whole * LANES, k, extra + whole * scale);
            });
        b += b_panel;
        c += c_panel;
        extra += extra_panel;
    }
}

// dw [count(in)][out][LANES] += G X^T over the samples of all panels. scratch: panels * LANES^2.
inline void weight_gradient(const float* g, int64_t g_panel, int out, const float* x,
                            int64_t x_panel, int in, int panels, float* scratch, float* dw) {
    const int whole = out / ROWS * ROWS;
    for (int first = 0; first < in; first += LANES, dw += int64_t(out) * LANES) {
        const int columns = in - first < LANES ? in - first : LANES;
        if (columns < LANES) std::memset(scratch, 0, sizeof(float) * panels * LANES * LANES);
        for (int p = 0; p < panels; ++p)
            transpose(x + p * x_panel + int64_t(first) * LANES, LANES, columns, LANES,
                      scratch + p * LANES * LANES, LANES);
        for (int o = 0; o < whole; o += ROWS)
            outer_block<ROWS>(g + o * LANES, g_panel, scratch, panels, dw + o * LANES);
        if (whole < out)
            with_rows<ROWS - 1>(out - whole, [&](auto rows) {
                outer_block<rows()>(g + whole * LANES, g_panel, scratch, panels,
                                    dw + whole * LANES);
            });
    }
}

}  // namespace panel
}  // namespace nk
