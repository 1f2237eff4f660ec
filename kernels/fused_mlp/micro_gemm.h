// Register-tiled product of small row-major matrices, with columns across vector lanes:
//     C[m][n] = epilogue( (accumulate ? C[m][n] : bias[m] or 0) + sum_k A[m][k] B[k][n] )
// A is read one number at a time and broadcast, so it may have any strides (a transposed matrix
// costs nothing). n is a multiple of VL; m and k are arbitrary.
#pragma once
#include <cstdint>
#include <utility>

#include "shared/simd.h"

namespace nk {

constexpr int64_t pad_lanes(int64_t n) { return (n + VL - 1) / VL * VL; }

// Row stride for a matrix of n columns: an odd number of cache lines, so that the rows of one
// column panel do not all fall into the same few sets of the L1 cache.
constexpr int64_t tile_stride(int64_t n) {
    const int64_t lines = (n + 15) / 16;
    return (lines | 1) * 16;
}

struct GemmA {  // A[m][k] = data[m * row + k * col]
    const float* data;
    int64_t row, col;
};

enum Epilogue : int {
    kStore = 0,
    kAccumulate = 1,  // starts from C instead of 0
    kBias = 2,        // starts from extra[m]
    kRelu = 4,        // max(C, 0)
    kMask = 8,        // 0 where extra[m * ldc + n] <= 0 (the backward of ReLU, from its output)
};

namespace gemm {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ACCUMULATORS = 24;  // of 32 vector registers
#else
constexpr int ACCUMULATORS = 12;  // of 16
#endif
constexpr int ROWS = 6;

// Vectors per row of a block of `rows`: a power of two, at least 8 independent sums in flight
// (2 multiply-adds a cycle with a latency of 4).
constexpr int vectors(int rows) {
    int v = 1;
    while (2 * v * rows <= ACCUMULATORS && v < 8) v *= 2;
    return v;
}

template <int F, int M, int V>
inline __attribute__((always_inline)) void block(const float* __restrict a, int64_t row,
                                                 int64_t col, const float* __restrict b,
                                                 int64_t ldb, float* __restrict c, int64_t ldc,
                                                 int k, const float* __restrict extra) {
    vf sum[M][V];
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            sum[i][v] = F & kAccumulate ? load(c + i * ldc + v * VL)
                        : F & kBias     ? splat(extra[i])
                                        : vf{};
    for (int kk = 0; kk < k; ++kk) {
        vf bv[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) bv[v] = load(b + v * VL);
#pragma GCC unroll 8
        for (int i = 0; i < M; ++i) {
            const vf ai = splat(a[i * row]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[i][v] += ai * bv[v];
        }
        a += col;
        b += ldb;
    }
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
            vf r = sum[i][v];
            if (F & kRelu) r = max(r, vf{});
            if (F & kMask) r = select(load(extra + i * ldc + v * VL) > vf{}, r, vf{});
            store(c + i * ldc + v * VL, r);
        }
}

// Rows [0, m) in blocks of M over columns [0, n), panel by panel so that a panel of B stays in L1.
template <int F, int M, int V>
void row_blocks(GemmA a, const float* b, int64_t ldb, float* c, int64_t ldc, int m, int n, int k,
                const float* extra) {
    int j = 0;
    for (; j + V * VL <= n; j += V * VL)
        for (int i = 0; i + M <= m; i += M)
            block<F, M, V>(a.data + i * a.row, a.row, a.col, b + j, ldb, c + i * ldc + j, ldc, k,
                           F & kMask ? extra + i * ldc + j : extra + i);
    if constexpr (V > 1)
        if (j < n)
            row_blocks<F, M, V / 2>(a, b + j, ldb, c + j, ldc, m, n - j, k,
                                    F & kMask ? extra + j : extra);
}

}  // namespace gemm

template <int F>
void micro_gemm(GemmA a, const float* b, int64_t ldb, float* c, int64_t ldc, int m, int n, int k,
                const float* extra = nullptr) {
    using namespace gemm;
    const int main_rows = m / ROWS * ROWS;
    if (main_rows) row_blocks<F, ROWS, vectors(ROWS)>(a, b, ldb, c, ldc, main_rows, n, k, extra);
    a.data += main_rows * a.row;
    c += main_rows * ldc;
    if (extra) extra += F & kMask ? main_rows * ldc : main_rows;
    switch (m - main_rows) {
        case 5: row_blocks<F, 5, vectors(5)>(a, b, ldb, c, ldc, 5, n, k, extra); break;
        case 4: row_blocks<F, 4, vectors(4)>(a, b, ldb, c, ldc, 4, n, k, extra); break;
        case 3: row_blocks<F, 3, vectors(3)>(a, b, ldb, c, ldc, 3, n, k, extra); break;
        case 2: row_blocks<F, 2, vectors(2)>(a, b, ldb, c, ldc, 2, n, k, extra); break;
        case 1: row_blocks<F, 1, vectors(1)>(a, b, ldb, c, ldc, 1, n, k, extra); break;
    }
}

namespace gemm {

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define NK_HAS_SHUFFLEVECTOR 1
#endif
#endif

template <int... I>
inline vf shuffle(vf a, vf b) {
#if defined(NK_HAS_SHUFFLEVECTOR)
    return __builtin_shufflevector(a, b, I...);
#else
    return __builtin_shuffle(a, b, vi{I...});
#endif
}

// Swaps blocks of H lanes off the diagonal: lane j of the low result is a[j] or b[j - H].
template <int H, int... J>
inline void swap_blocks(vf& a, vf& b, std::integer_sequence<int, J...>) {
    const vf low = shuffle<(J & H ? VL + J - H : J)...>(a, b);
    b = shuffle<(J & H ? VL + J : J + H)...>(a, b);
    a = low;
}
// Interleaves within groups of four lanes: one instruction each on SSE, AVX and AVX-512.
template <int... J>
inline void interleave(vf a, vf b, vf& low, vf& high, std::integer_sequence<int, J...>) {
    low = shuffle<((J & ~3) + (J & 3) / 2 + (J & 1) * VL)...>(a, b);
    high = shuffle<((J & ~3) + (J & 3) / 2 + 2 + (J & 1) * VL)...>(a, b);
}
template <int... J>
inline void interleave_pairs(vf a, vf b, vf& low, vf& high, std::integer_sequence<int, J...>) {
    low = shuffle<((J & ~3) + (J & 1) + (J & 2 ? VL : 0))...>(a, b);
    high = shuffle<((J & ~3) + (J & 1) + 2 + (J & 2 ? VL : 0))...>(a, b);
}

inline __attribute__((always_inline)) void transpose_block(vf (&r)[VL]) {
    constexpr auto lanes = std::make_integer_sequence<int, VL>{};
#if defined(__AVX512F__)
#pragma GCC unroll 16
    for (int i = 0; i < 8; ++i) swap_blocks<8>(r[i], r[i + 8], lanes);
#endif
#if defined(__AVX2__)
#pragma GCC unroll 16
    for (int i = 0; i < VL; ++i)
        if (!(i & 4)) swap_blocks<4>(r[i], r[i + 4], lanes);
#endif
#pragma GCC unroll 16
    for (int i = 0; i < VL; i += 4) {  // 4 x 4 inside every group of four lanes
        vf a, b, c, d;
        interleave(r[i], r[i + 1], a, b, lanes);
        interleave(r[i + 2], r[i + 3], c, d, lanes);
        interleave_pairs(a, c, r[i], r[i + 1], lanes);
        interleave_pairs(b, d, r[i + 2], r[i + 3], lanes);
    }
}

}  // namespace gemm

// dst[c][r] = src[r][c] for r < rows, c < cols; dst rows are filled with zeros up to
// pad_lanes(rows), which is the least ld_dst.
inline void transpose(const float* src, int64_t ld_src, int rows, int cols, float* dst,
                      int64_t ld_dst) {
    for (int r0 = 0; r0 < rows; r0 += VL)
        for (int c0 = 0; c0 < cols; c0 += VL) {
            vf block[VL];
            const float* p = src + r0 * ld_src + c0;
            const int height = rows - r0 < VL ? rows - r0 : VL;
            const int width = cols - c0 < VL ? cols - c0 : VL;
            if (height == VL && width == VL) {
#pragma GCC unroll 16
                for (int i = 0; i < VL; ++i) block[i] = load(p + i * ld_src);
            } else {
                for (int i = 0; i < VL; ++i)
                    block[i] = i < height ? load_first(p + i * ld_src, width) : vf{};
            }
            gemm::transpose_block(block);
            float* q = dst + c0 * ld_dst + r0;
            if (width == VL) {
#pragma GCC unroll 16
                for (int i = 0; i < VL; ++i) store(q + i * ld_dst, block[i]);
            } else {
                for (int i = 0; i < width; ++i) store(q + i * ld_dst, block[i]);
            }
        }
}

}  // namespace nk
