// Rays through a baked scene: empty space is skipped for tiles of rays together, then VL lattice
// points of one block are looked at together. Layout of the scene: grid.py.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "shared/simd.h"

namespace nk::baked {

constexpr int64_t TILE = 64, SMALL_TILE = 16;  // rays
constexpr int64_t ROW = 128;                   // corners a block takes in memory
constexpr int RECORD = 16;                     // values a corner
constexpr int COMPONENTS = 5;                  // of RGB
constexpr int BANDS = 4, HARMONICS = 16;
constexpr int32_t OFFSET[8] = {0, 1, 5, 6, 25, 26, 30, 31};  // a voxel's corners in a block

// exp(-sigma step) by raw density, linear between entries: faster than exp, log and exp. The error
// is below 1e-6.
class Transparency {
  public:
    void tabulate(float density_scale, float step, float raw_low, float raw_scale) {
        // Below LOW softplus(x) is exp(x), 3e-6 at most; above `high` nothing passes.
        const float thick = density_scale * step, high = std::max(16.f / thick, 1.f) + 1.f;
        per_raw_ = (SIZE - 1) / (high - LOW);
        for (int i = 0; i <= SIZE; ++i) {
            const double x = LOW + i / static_cast<double>(per_raw_);
            keep_[i] = static_cast<float>(std::exp(-thick * (x > 30 ? x : std::log1p(std::exp(x)))));
        }
        base_ = (raw_low - LOW) * per_raw_, scale_ = raw_scale * per_raw_;
    }
    // Place in the table of stored densities q.
    vf place(vf q) const {
        return min(max(base_ + scale_ * q, vf{}), splat(static_cast<float>(SIZE) - 1.001f));
    }
    float at(float place) const {
        const int32_t i = static_cast<int32_t>(place);
        return keep_[i] + (place - static_cast<float>(i)) * (keep_[i + 1] - keep_[i]);
    }

  private:
    static constexpr int SIZE = 8192;
    static constexpr float LOW = -13.f;
    float keep_[SIZE + 1], per_raw_, base_, scale_;
};

struct Scene {
    int32_t resolution, n;  // voxels, blocks along an axis
    const int32_t* places;
    const uint8_t* distances;
    const uint64_t* words;
    const int16_t* density;
    const uint8_t* ranks;
    const int32_t* first;
    float box_min[3], voxel;
    float step, near, far, early_stop, weight_min;
    float* max_weights;  // or null
    Transparency transparency;

    int64_t flat(const int32_t* block) const {
        return (static_cast<int64_t>(block[2]) * n + block[1]) * n + block[0];
    }
    int32_t cell(float p) const {
        return static_cast<int32_t>(std::min(std::max(p, 0.f), static_cast<float>(resolution) - 0.5f));
    }
};

// Bit i: the lowest bit of lane i.
inline uint32_t lane_bits(vi v) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    vf sign;
    v <<= 31;
    std::memcpy(&sign, &v, sizeof sign);
    return static_cast<uint32_t>(__builtin_ia32_movmskps256(sign));
#else
    uint32_t bits = 0;
    for (int i = 0; i < VL; ++i) bits |= static_cast<uint32_t>(v[i] & 1) << i;
    return bits;
#endif
}

// Rays in voxels from the lowest corner, and where each is in the cube.
struct Tile {
    float o[3][TILE] = {}, d[3][TILE] = {}, t_in[TILE], t_out[TILE];

    void load(const Scene& s, const float* origins, int64_t stride, const float* directions,
              int64_t count) {
        const float per_voxel = 1.f / s.voxel, top = static_cast<float>(s.resolution);
        for (int64_t i = 0; i < TILE; ++i) t_in[i] = s.near, t_out[i] = i < count ? s.far : 0.f;
        for (int a = 0; a < 3; ++a) {
            for (int64_t i = 0; i < count; ++i) {
                o[a][i] = (origins[i * stride + a] - s.box_min[a]) * per_voxel;
                d[a][i] = directions[i * 3 + a] * per_voxel;
            }
            for (int64_t i = 0; i < count; ++i) {
                const float p = o[a][i], v = d[a][i];
                const bool parallel = std::fabs(v) < 1e-12f;
                const float inverse = 1.f / (parallel ? 1.f : v);
                const float t0 = -p * inverse, t1 = (top - p) * inverse;
                const float outside = p < 0.f ? 3e38f : p >= top ? 3e38f : 0.f;
                t_in[i] = std::max(t_in[i], parallel ? outside : std::min(t0, t1));
                t_out[i] = std::min(t_out[i], parallel ? 3e38f : std::max(t0, t1));
            }
        }
    }

    // No ray of begin .. end - 1 meets anything from t = `start` to the distance returned.
    //
    // All are as close to their mean ray as a + b t, and the distances are of whole blocks.
    float skip(const Scene& s, int64_t begin, int64_t end, float start) const {
        float first = 3e38f, last = 0.f;
        for (int64_t i = begin; i < end; ++i) {
            const bool inside = t_in[i] < t_out[i];
            first = std::min(first, inside ? t_in[i] : 3e38f);
            last = std::max(last, inside ? t_out[i] : 0.f);
        }
        float t = std::max(start, first);
        if (!(t < last)) return 3e38f;
        float origin[3], direction[3], a = 0.f, b = 0.f, fastest = 0.f;
        for (int x = 0; x < 3; ++x) {
            const Range from = range(o[x] + begin, end - begin), to = range(d[x] + begin, end - begin);
            origin[x] = 0.5f * (from.low + from.high), direction[x] = 0.5f * (to.low + to.high);
            a = std::max(a, 0.5f * (from.high - from.low));
            b = std::max(b, 0.5f * (to.high - to.low));
            fastest = std::max(fastest, std::fabs(direction[x]));
        }
        const float least = 2.f / fastest, speed = 1.f / (fastest + b);
        while (t < last) {
            int32_t block[3];
            for (int x = 0; x < 3; ++x) block[x] = s.cell(origin[x] + t * direction[x]) >> 2;
            const float room = static_cast<float>(s.distances[s.flat(block)] * 4 - 4) - 0.01f;
            const float ahead = (room - a - b * t) * speed;
            if (!(ahead > least)) return t;
            t += ahead;
        }
        return 3e38f;
    }

    // Lattice points k at which rays begin .. end - 1, that meet nothing before t = `start`, come to
    // their first stored block, or -1 where there is none. VL rays take their steps together.
    void advance(const Scene& s, int64_t begin, int64_t end, float start, int32_t* k_first) const {
        const float per_step = 1.f / s.step, top = static_cast<float>(s.resolution) - 0.5f;
        for (int64_t i = begin; i < end; i += VL) {
            vf inverse[3], ahead[3], behind[3], k = points(max(nk::load(t_in + i), splat(start)) * per_step);
            const vf last = points(nk::load(t_out + i) * per_step);
            for (int a = 0; a < 3; ++a) {
                const vf v = nk::load(d[a] + i);
                const vi up = v > vf{}, still = max(v, -v) < splat(1e-12f);
                inverse[a] = select(still, vf{}, 1.f / select(still, splat(1.f), v));
                ahead[a] = select(up, vf{}, splat(4.f)) - nk::load(o[a] + i);
                behind[a] = select(up, splat(4.f), splat(-4.f));
            }
            for (vi active = k < last; lane_bits(active);) {
                const vf t = (k + 0.5f) * s.step;
                vf t_exit = splat(3e38f);
                vi block[3];
                for (int a = 0; a < 3; ++a)
                    block[a] = to_int(min(max(nk::load(o[a] + i) + t * nk::load(d[a] + i), vf{}), splat(top))) >> 2;
                const vi flat = (block[2] * s.n + block[1]) * s.n + block[0];
                vi distance;
                for (int l = 0; l < VL; ++l) distance[l] = s.distances[flat[l]];
                active &= distance > vi{};
                for (int a = 0; a < 3; ++a) {
                    const vf face = ahead[a] + to_float(block[a] << 2) + behind[a] * to_float(distance);
                    t_exit = select(inverse[a] == vf{}, t_exit, min(t_exit, face * inverse[a]));
                }
                // A hair less, so that a point on the face is looked at itself.
                const vf next = min(max(points(t_exit * per_step - 1e-3f), k + 1.f), last);
                k = select(active, next, k);
                active &= k < last;
            }
            for (int64_t l = 0; l < VL; ++l)
                k_first[i + l] = k[l] < last[l] ? static_cast<int32_t>(k[l]) : -1;
        }
    }

  private:
    // The first lattice point at or behind t = `steps` steps.
    static vf points(vf steps) { return -floor(0.5f - min(max(steps, vf{}), splat(1e9f))); }

    struct Range {
        float low, high;
    };
    static Range range(const float* values, int64_t count) {
        Range found{values[0], values[0]};
        for (int64_t i = 1; i < count; ++i) {
            found.low = std::min(found.low, values[i]);
            found.high = std::max(found.high, values[i]);
        }
        return found;
    }
};

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

// One ray, from lattice point k on; shade(place, corner, weight, fx, fy, fz) is called for every sample
// that weighs more than weight_min: `corner` is its voxel's lowest in the block at `place`.
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
            if (weight > s_.weight_min) shade_(place, corner[i], weight, f[0][i], f[1][i], f[2][i]);
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

// The weights of a voxel's corners at a place in it.
inline vf8 shares(float weight, float fx, float fy, float fz) {
    const float z1 = weight * fz, z0 = weight - z1;
    const float y1 = z0 * fy, y0 = z0 - y1, y3 = z1 * fy, y2 = z1 - y3;
    const float x0 = 1.f - fx;
    return vf8{y0, y0, y1, y1, y2, y2, y3, y3} * vf8{x0, fx, x0, fx, x0, fx, x0, fx};
}

}  // namespace nk::baked
