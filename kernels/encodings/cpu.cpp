// Spherical harmonics (VL directions at a time) and frequency encoding (VL outputs of a row at a
// time).
#include <algorithm>
#include <cstring>
#include <vector>

#include "encodings/frequency.h"
#include "encodings/sh.h"
#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/simd.h"

namespace {

using nk::vf;
using nk::vi;
using nk::VL;

constexpr int64_t kRowsPerTask = 1024;

// `count` rows of a [*, width] matrix as one vector a column, missing rows zero; and back.
template <int width>
inline void load_columns(const float* rows, int count, vf* columns) {
    for (int c = 0; c < width; ++c) columns[c] = vf{};
    for (int lane = 0; lane < count; ++lane)
        for (int c = 0; c < width; ++c) columns[c][lane] = rows[lane * width + c];
}
template <int width>
inline void store_columns(float* rows, int count, const vf* columns) {
    for (int lane = 0; lane < count; ++lane)
        for (int c = 0; c < width; ++c) rows[lane * width + c] = columns[c][lane];
}

template <int degree>
void sh_forward(const float* directions, int64_t n, float* out) {
    constexpr int K = degree * degree;
    nk::parallel_for(n, kRowsPerTask, [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; i += VL) {
            const int count = static_cast<int>(std::min<int64_t>(VL, end - i));
            vf d[3], basis[K];
            load_columns<3>(directions + 3 * i, count, d);
            nk::sh_basis(d[0], d[1], d[2], degree, basis);
            store_columns<K>(out + K * i, count, basis);
        }
    });
}

template <int degree>
void sh_backward(const float* directions, const float* g_out, int64_t n, float* g_directions) {
    constexpr int K = degree * degree;
    nk::parallel_for(n, kRowsPerTask, [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; i += VL) {
            const int count = static_cast<int>(std::min<int64_t>(VL, end - i));
            vf d[3], g[K], g_d[3];
            load_columns<3>(directions + 3 * i, count, d);
            load_columns<K>(g_out + K * i, count, g);
            nk::sh_basis_backward(d[0], d[1], d[2], degree, g, g_d[0], g_d[1], g_d[2]);
            store_columns<3>(g_directions + 3 * i, count, g_d);
        }
    });
}

}  // namespace

NK_EXPORT void nk_sh_forward(const float* directions, int64_t n, int64_t degree, float* out) {
    if (degree == 1) sh_forward<1>(directions, n, out);
    if (degree == 2) sh_forward<2>(directions, n, out);
    if (degree == 3) sh_forward<3>(directions, n, out);
    if (degree == 4) sh_forward<4>(directions, n, out);
}

NK_EXPORT void nk_sh_backward(const float* directions, const float* g_out, int64_t n,
                              int64_t degree, float* g_directions) {
    if (degree == 1) sh_backward<1>(directions, g_out, n, g_directions);
    if (degree == 2) sh_backward<2>(directions, g_out, n, g_directions);
    if (degree == 3) sh_backward<3>(directions, g_out, n, g_directions);
    if (degree == 4) sh_backward<4>(directions, g_out, n, g_directions);
}

NK_EXPORT void nk_frequency_forward(const float* x, int64_t rows, int64_t channels,
                                    int64_t n_frequencies, int64_t include_input, float* out) {
    const int64_t waves = 2 * n_frequencies * channels;
    const int64_t width = waves + include_input * channels;
    nk::parallel_for(rows, kRowsPerTask, [=](int64_t begin, int64_t end, int) {
        std::vector<int32_t> angles(waves + VL);
        for (int64_t row = begin; row < end; ++row) {
            const float* xs = x + row * channels;
            float* to = out + row * width;
            if (include_input) to = std::copy_n(xs, channels, to);
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t turns = nk::quarter_turns(xs[c]);
                for (int64_t k = 0; k < n_frequencies; ++k) {
                    const int32_t a = nk::angle(turns, static_cast<int>(k));
                    angles[2 * k * channels + c] = a;
                    angles[(2 * k + 1) * channels + c] = nk::cosine_angle(a);
                }
            }
            for (int64_t j = 0; j < waves; j += VL) {
                vi a;
                std::memcpy(&a, &angles[j], sizeof a);
                // A whole vector may run into the next row, which is written afterwards.
                if (j + VL <= waves || (row + 1 < end && waves >= VL))
                    nk::store(to + j, nk::sin_of(a));
                else
                    nk::store_first(to + j, nk::sin_of(a), static_cast<int>(waves - j));
            }
        }
    });
}

// out is the forward's result: d sin(a) = cos(a) and d cos(a) = -sin(a) are in it.
NK_EXPORT void nk_frequency_backward(const float* out, const float* g_out, int64_t rows,
                                     int64_t channels, int64_t n_frequencies,
                                     int64_t include_input, float* g_x) {
    const int64_t width = (2 * n_frequencies + include_input) * channels;
    nk::parallel_for(rows, kRowsPerTask, [=](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const float* values = out + row * width;
            const float* g = g_out + row * width;
            float* to = g_x + row * channels;
            if (include_input) {
                std::copy_n(g, channels, to);
                values += channels, g += channels;
            } else {
                std::fill_n(to, channels, 0.f);
            }
            for (int64_t k = 0; k < n_frequencies; ++k, values += 2 * channels, g += 2 * channels) {
                const float scale = static_cast<float>(int64_t{1} << k);
                for (int64_t c = 0; c < channels; ++c)
                    to[c] += scale * (g[c] * values[channels + c] - g[channels + c] * values[c]);
            }
        }
    });
}
