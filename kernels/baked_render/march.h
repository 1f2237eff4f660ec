// One ray through a baked scene, VL lattice points of one block at a time.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "baked_render/tile.h"
#include "shared/simd.h"

namespace nk::baked {

// Two neighbouring densities in one load.
inline vi load_pairs(const int16_t* row, vi corner) {
    vi pairs;
    for (int i = 0; i < VL; ++i) {
        int32_t pair;
        std::memcpy(&pair, row + corner[i], 4);
        pairs[i] = pair;
    }
    return pairs;
}

inline vf blend(vi pairs, vf fx) {
    const vf low = to_float((pairs << 16) >> 16), high = to_float(pairs >> 16);
    return low + fx * (high - low);
}

struct Seen {
    float transmittance = 1.f, depth = 0.f, opacity = 0.f;
};

// One ray, from lattice point k on; shade(place, voxel, corner, weight, fx, fy, fz) is called for every
// sample that weighs more than weight_min: `corner` is its voxel's lowest in the block at `place`.
template <class Shade>
class March {
  public:
    March(const Scene& s, const Tile& tile, int64_t i, Shade& shade)
        : s_(s),
          shade_(shade),
          o_{tile.o[0][i], tile.o[1][i], tile.o[2][i]},
          d_{tile.d[0][i], tile.d[1][i], tile.d[2][i]} {}

    Seen run(int64_t k, float t_out) {
        float inverse[3], ahead[3], behind[3];
        for (int a = 0; a < 3; ++a) {
            const bool parallel = std::fabs(d_[a]) < 1e-12f;
            inverse[a] = parallel ? 0.f : 1.f / d_[a];
            // Of the far face of a cube: its coordinate is ahead + 4 block + behind * reach.
            const bool up = d_[a] > 0.f;
            ahead[a] = (up ? 0.f : 4.f) - o_[a], behind[a] = up ? 4.f : -4.f;
            if (parallel) ahead[a] = 0.f;
        }
        const float per_step = 1.f / s_.step;
        // An integer end, so that a march ends whatever the ray: NaN, infinite, of no direction.
        const float end = std::ceil(t_out * per_step - 0.5f);
        const int64_t k_end = end < 1e9f ? static_cast<int64_t>(end) : 0;
        while (k < k_end) {
            const float t = (static_cast<float>(k) + 0.5f) * s_.step;
            int32_t block[3];
            for (int a = 0; a < 3; ++a) block[a] = s_.cell(o_[a] + t * d_[a]) >> 2;
            const int64_t flat = s_.flat(block);
            const int32_t distance = s_.distances[flat];
            // Empty blocks around, or this block alone: to the far faces of that cube.
            const float reach = static_cast<float>(distance ? distance : 1);
            float t_exit = 3e38f;
            for (int a = 0; a < 3; ++a) {
                const float face = ahead[a] + static_cast<float>(block[a] * 4) + behind[a] * reach;
                t_exit = inverse[a] == 0.f ? t_exit : std::min(t_exit, face * inverse[a]);
            }
            // A hair less, so that a point on the face is looked at itself.
            int64_t next = index(std::min(t_exit * per_step, 2e9f) - 1e-3f);
            next = std::min(std::max(next, k + 1), k_end);
            if (!distance) {
                const int64_t place = s_.places[flat];
                const float low[3] = {o_[0] - block[0] * 4.f, o_[1] - block[1] * 4.f,
                                      o_[2] - block[2] * 4.f};
                for (; k < next; k += VL) {
                    samples(place, low, k, static_cast<int32_t>(std::min<int64_t>(next - k, VL)));
                    if (seen_.transmittance < s_.early_stop) return seen_;
                }
            }
            k = next;
        }
        return seen_;
    }

  private:
    static int64_t index(float steps) { return static_cast<int64_t>(std::ceil(steps - 0.5f)); }

    // Lattice points k .. k + count - 1, all in one block; the ray's origin is `low` from it.
    void samples(int64_t place, const float* low, int64_t k, int32_t count) {
        vf lane;
        for (int i = 0; i < VL; ++i) lane[i] = static_cast<float>(i);
        const vf t = (static_cast<float>(k) + 0.5f + lane) * s_.step;
        vf f[3];
        vi c[3];
        for (int a = 0; a < 3; ++a) {
            f[a] = low[a] + t * d_[a];
            c[a] = to_int(min(max(f[a], vf{}), splat(3.5f)));
            f[a] -= to_float(c[a]);
        }
        const vi voxel = c[0] + (c[1] << 2) + (c[2] << 4);
        const uint64_t word = s_.words[place];
        const vi half = voxel > splat(int32_t{31}) ? splat(static_cast<int32_t>(word >> 32))
                                                   : splat(static_cast<int32_t>(word));
        uint32_t bits = lane_bits(half >> (voxel & 31)) & ((1u << count) - 1);
        if (!bits) return;
        const vi corner = c[0] + c[1] * 5 + c[2] * 25;
        const int16_t* row = s_.density + place * ROW;
        const vf x00 = blend(load_pairs(row, corner), f[0]),
                 x10 = blend(load_pairs(row + 5, corner), f[0]),
                 x01 = blend(load_pairs(row + 25, corner), f[0]),
                 x11 = blend(load_pairs(row + 30, corner), f[0]);
        const vf y0 = x00 + f[1] * (x10 - x00), y1 = x01 + f[1] * (x11 - x01);
        const vf where = s_.transparency.place(y0 + f[2] * (y1 - y0));
        for (; bits; bits &= bits - 1) {
            const int i = __builtin_ctz(bits);
            const float keep = s_.transparency.at(where[i]);
            const float weight = seen_.transmittance * (1.f - keep);
            seen_.transmittance *= keep;
            seen_.depth += weight * t[i];
            seen_.opacity += weight;
            if (s_.max_weights) {
                float& most = s_.max_weights[place * 64 + voxel[i]];
                most = std::max(most, weight);
            }
            if (weight > s_.weight_min) shade_(place, voxel[i], corner[i], weight, f[0][i], f[1][i], f[2][i]);
            if (seen_.transmittance < s_.early_stop) {  // what is left is not seen to pass
                seen_.depth += seen_.transmittance * t[i];
                seen_.opacity += seen_.transmittance;
                return;
            }
        }
    }

    const Scene& s_;
    Shade& shade_;
    float o_[3], d_[3];  // voxels, and per t
    Seen seen_;
};

typedef uint8_t u8x8 __attribute__((vector_size(8)));

inline vf8 load_bytes(const uint8_t* p) {
#if defined(__AVX2__)  // GCC 12 converts one by one
    const __m256i whole = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return reinterpret_cast<vf8>(_mm256_cvtepi32_ps(whole));
#else
    u8x8 bytes;
    std::memcpy(&bytes, p, sizeof bytes);
    return __builtin_convertvector(__builtin_convertvector(bytes, vi8), vf8);
#endif
}

// The weights of the four pairs of corners that differ in x, at a place in a cell.
struct Pairs {
    Pairs(float weight, float fy, float fz) {
        const float z1 = weight * fz, z0 = weight - z1;
        y[1] = z0 * fy, y[0] = z0 - y[1], y[3] = z1 * fy, y[2] = z1 - y[3];
    }
    float y[4];
};

// The weights of a voxel's corners at a place in it.
inline vf8 shares(float weight, float fx, float fy, float fz) {
    const Pairs p(weight, fy, fz);
    const float x0 = 1.f - fx;
    return vf8{p.y[0], p.y[0], p.y[1], p.y[1], p.y[2], p.y[2], p.y[3], p.y[3]} *
           vf8{x0, fx, x0, fx, x0, fx, x0, fx};
}

// The half voxel at a place in a voxel: its lowest corner in the brick, and the place in it.
struct Half {
    Half() = default;
    Half(float fx, float fy, float fz) : f{2.f * fx, 2.f * fy, 2.f * fz} {
        constexpr int32_t stride[3] = {1, 3, 9};
        for (int a = 0; a < 3; ++a)
            if (f[a] >= 1.f) corner += stride[a], f[a] -= 1.f;
    }
    static constexpr int32_t PAIR[4] = {0, 3, 9, 12};  // the lower corner of each
    int32_t corner = 0;
    float f[3];
};

inline int64_t brick_of(const Scene& s, int64_t place, int32_t voxel) {
    return s.first_brick[place] + __builtin_popcountll(s.words[place] & ((uint64_t{1} << voxel) - 1));
}

}  // namespace nk::baked
