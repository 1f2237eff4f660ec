// Rays through a baked scene, VL lattice points of one block at a time. Layout: grid.py.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "encodings/sh.h"
#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/simd.h"

namespace {

using nk::splat;
using nk::to_float;
using nk::to_int;
using nk::vf;
using nk::vi;
using nk::VL;

constexpr int64_t TILE = 64;   // rays
constexpr int64_t ROW = 128;   // corners a block takes in memory
constexpr int RECORD = 16;     // bytes a corner
constexpr int COMPONENTS = 5;  // of RGB
constexpr int BANDS = 4, HARMONICS = 16;

typedef uint8_t u8x8 __attribute__((vector_size(8)));

struct Scene {
    int32_t resolution, n;  // voxels, blocks along an axis
    const int32_t* places;
    const uint8_t* distances;
    const uint64_t* words;
    const int16_t* density;
    const uint8_t* ranks;
    const int32_t* first;
    const uint8_t* records;
    const float *levels, *views;
    float box_min[3], voxel;
    float raw_low, raw_scale, density_scale;  // the bias is in raw_low
    float step, near, far, early_stop, weight_min;
    float *max_weights;  // or null
};

struct Pixel {
    float color[3], depth, opacity;
};

// Two neighbouring densities in one load.
inline vi load_pairs(const int16_t* row, vi corner) {
    vi pairs;
    for (int i = 0; i < VL; ++i) std::memcpy(reinterpret_cast<char*>(&pairs) + 4 * i, row + corner[i], 4);
    return pairs;
}

inline vf blend(vi pairs, vf fx) {
    const vf low = to_float((pairs << 16) >> 16), high = to_float(pairs >> 16);
    return low + fx * (high - low);
}

// exp(-sigma step) of softplus densities.
inline vf transparency(const Scene& s, vf raw) {
    const vf e = nk::exp(nk::min(raw, splat(20.f)));
    const vf soft = nk::select(raw > splat(15.f), raw,
                               nk::select(e < splat(1e-3f), e - 0.5f * e * e, nk::log(1.f + e)));
    return nk::exp(soft * (-s.density_scale * s.step));
}

class Ray {
  public:
    Ray(const Scene& s, const float* origin, const float* direction) : s_(s), world_(direction) {
        const float per_voxel = 1.f / s.voxel, top = static_cast<float>(s.resolution);
        float t_in = s.near, t_out = s.far;
        for (int a = 0; a < 3; ++a) {
            o_[a] = (origin[a] - s.box_min[a]) * per_voxel;
            d_[a] = direction[a] * per_voxel;
            if (std::fabs(d_[a]) < 1e-12f) {
                inverse_[a] = 0.f;
                if (o_[a] < 0.f || o_[a] >= top) t_out = -1.f;
            } else {
                inverse_[a] = 1.f / d_[a];
                const float t0 = -o_[a] * inverse_[a], t1 = (top - o_[a]) * inverse_[a];
                t_in = std::fmax(t_in, std::fmin(t0, t1));
                t_out = std::fmin(t_out, std::fmax(t0, t1));
            }
        }
        t_in_ = t_in, t_out_ = t_out;
    }

    // Nothing is met before t = `start`.
    void render(float start, const float* background, Pixel& out) {
        const float per_step = 1.f / s_.step;
        int64_t k = index(std::fmax(t_in_, start) * per_step);
        if (k < 0) k = 0;
        // An integer end, so that a march ends whatever the ray: NaN, infinite, of no direction.
        const float end = std::ceil(t_out_ * per_step - 0.5f);
        const int64_t k_end = end < 1e9f ? static_cast<int64_t>(end) : 0;
        while (k < k_end && transmittance_ >= s_.early_stop) {
            const float t = (static_cast<float>(k) + 0.5f) * s_.step;
            int32_t block[3];
            for (int a = 0; a < 3; ++a) block[a] = cell(o_[a] + t * d_[a]) >> 2;
            const int64_t flat =
                (static_cast<int64_t>(block[2]) * s_.n + block[1]) * s_.n + block[0];
            const int32_t distance = s_.distances[flat];
            // Empty blocks around, or this block alone: to the far faces of that cube.
            const int32_t reach = distance ? distance : 1;
            float t_exit = 1e30f;
            for (int a = 0; a < 3; ++a) {
                if (inverse_[a] == 0.f) continue;
                const int32_t face = d_[a] > 0.f ? block[a] + reach : block[a] - reach + 1;
                t_exit = std::fmin(t_exit, (static_cast<float>(face * 4) - o_[a]) * inverse_[a]);
            }
            // A hair less, so that a point on the face is looked at itself.
            int64_t next = index(t_exit * per_step - 1e-3f);
            next = std::min(std::max(next, k + 1), k_end);
            if (!distance) {
                const int64_t place = s_.places[flat];
                const float low[3] = {block[0] * 4.f, block[1] * 4.f, block[2] * 4.f};
                for (; k < next && transmittance_ >= s_.early_stop; k += VL)
                    samples(place, low, k, static_cast<int32_t>(std::min<int64_t>(next - k, VL)));
            }
            k = next;
        }
        finish(background, out);
    }

  private:
    int64_t index(float steps) const { return static_cast<int64_t>(std::ceil(steps - 0.5f)); }
    int32_t cell(float p) const {
        const int32_t c = static_cast<int32_t>(p);
        return c < 0 ? 0 : c >= s_.resolution ? s_.resolution - 1 : c;
    }

    // Lattice points k .. k + count - 1, all in one block whose lowest corner is `low`.
    void samples(int64_t place, const float* low, int64_t k, int32_t count) {
        vf lane;
        for (int i = 0; i < VL; ++i) lane[i] = static_cast<float>(i);
        const vf t = (static_cast<float>(k) + 0.5f + lane) * s_.step;
        const vi three = splat(int32_t{3}), zero{};
        vf f[3];
        vi c[3];
        for (int a = 0; a < 3; ++a) {
            f[a] = (o_[a] - low[a]) + t * d_[a];
            c[a] = to_int(f[a]);
            c[a] = c[a] < zero ? zero : c[a] > three ? three : c[a];
            f[a] -= to_float(c[a]);
        }
        const vi voxel = c[0] + (c[1] << 2) + (c[2] << 4);
        const uint64_t word = s_.words[place];
        const vi half = voxel > splat(int32_t{31}) ? splat(static_cast<int32_t>(word >> 32))
                                                   : splat(static_cast<int32_t>(word));
        const vi occupied = (half >> (voxel & 31)) & 1;
        int32_t bits = 0;
        for (int i = 0; i < VL; ++i) bits |= occupied[i] << i;
        bits &= (1 << count) - 1;
        if (!bits) return;
        const vi corner = c[0] + c[1] * 5 + c[2] * 25;
        const int16_t* row = s_.density + place * ROW;
        const vf x00 = blend(load_pairs(row, corner), f[0]),
                 x10 = blend(load_pairs(row + 5, corner), f[0]),
                 x01 = blend(load_pairs(row + 25, corner), f[0]),
                 x11 = blend(load_pairs(row + 30, corner), f[0]);
        const vf y0 = x00 + f[1] * (x10 - x00), y1 = x01 + f[1] * (x11 - x01);
        const vf keep = transparency(s_, s_.raw_low + s_.raw_scale * (y0 + f[2] * (y1 - y0)));
        for (; bits; bits &= bits - 1) {
            const int i = __builtin_ctz(static_cast<uint32_t>(bits));
            const float weight = transmittance_ * (1.f - keep[i]);
            transmittance_ *= keep[i];
            depth_ += weight * t[i];
            opacity_ += weight;
            if (s_.max_weights) note(place * 64 + voxel[i], weight);
            if (weight > s_.weight_min) shade(place, corner[i], weight, f[0][i], f[1][i], f[2][i]);
            if (transmittance_ < s_.early_stop) return;
        }
    }

    void note(int64_t voxel, float weight) {
        s_.max_weights[voxel] = std::max(s_.max_weights[voxel], weight);
    }

    void shade(int64_t place, int32_t corner, float weight, float fx, float fy, float fz) {
        static constexpr int32_t OFFSET[8] = {0, 1, 5, 6, 25, 26, 30, 31};
        const uint8_t* ranks = s_.ranks + place * ROW + corner;
        const uint8_t* records = s_.records + static_cast<int64_t>(s_.first[place]) * RECORD;
        shaded_ += weight;
        const float z1 = weight * fz, z0 = weight - z1;
        const float y[4] = {z0 - z0 * fy, z0 * fy, z1 - z1 * fy, z1 * fy};
        for (int c = 0; c < 8; ++c) {
            const float share = y[c >> 1] * (c & 1 ? fx : 1.f - fx);
            const uint8_t* record = records + ranks[OFFSET[c]] * RECORD;
            for (int h = 0; h < 2; ++h) {
                u8x8 bytes;
                std::memcpy(&bytes, record + 8 * h, 8);
                sum_[h] += share * __builtin_convertvector(__builtin_convertvector(bytes, nk::vi8), nk::vf8);
            }
        }
    }

    void finish(const float* background, Pixel& out) const {
        out = Pixel{{0.f, 0.f, 0.f}, depth_, opacity_};
        if (shaded_ > 0.f) {
            float harmonics[HARMONICS], sums[RECORD];
            nk::sh_basis(world_[0], world_[1], world_[2], BANDS, harmonics);
            std::memcpy(sums, sum_, sizeof sums);
            for (int d = 0; d < COMPONENTS; ++d) {
                float view = 0.f;
                for (int h = 0; h < HARMONICS; ++h) view += s_.views[d * HARMONICS + h] * harmonics[h];
                for (int a = 0; a < 3; ++a) {
                    const int c = d * 3 + a;
                    out.color[a] += view * (s_.levels[c] * shaded_ + s_.levels[RECORD + c] * sums[c]);
                }
            }
        }
        if (background)
            for (int a = 0; a < 3; ++a) out.color[a] += (1.f - opacity_) * background[a];
    }

    const Scene& s_;
    const float* world_;
    float o_[3], d_[3], inverse_[3];  // voxels, and per voxel
    float t_in_, t_out_;
    float transmittance_ = 1.f, depth_ = 0.f, opacity_ = 0.f, shaded_ = 0.f;
    nk::vf8 sum_[2] = {};
};

}  // namespace

NK_EXPORT void nk_baked_render_forward(
    const float* origins, const float* directions, const float* backgrounds, int64_t n_rays,
    int64_t resolution, const int32_t* places, const uint8_t* distances, const uint64_t* words,
    const int16_t* density, const uint8_t* ranks, const int32_t* first, const uint8_t* records,
    const float* levels, const float* views, const float* settings, float* max_weights,
    float* colors, float* depths, float* opacities) {
    Scene s{};
    s.resolution = static_cast<int32_t>(resolution);
    s.n = static_cast<int32_t>((resolution + 3) / 4);
    s.places = places, s.distances = distances, s.words = words, s.density = density;
    s.ranks = ranks, s.first = first, s.records = records, s.levels = levels, s.views = views;
    std::copy(settings, settings + 3, s.box_min);
    s.voxel = settings[3];
    s.raw_low = settings[4] + settings[7];
    s.raw_scale = settings[5];
    s.density_scale = settings[6];
    s.step = settings[8], s.near = settings[9], s.far = settings[10];
    s.early_stop = settings[11], s.weight_min = settings[12];
    s.max_weights = max_weights;
    nk::parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            Pixel pixel;
            Ray(s, origins + r * 3, directions + r * 3)
                .render(0.f, backgrounds ? backgrounds + r * 3 : nullptr, pixel);
            std::copy(pixel.color, pixel.color + 3, colors + r * 3);
            depths[r] = pixel.depth;
            opacities[r] = pixel.opacity;
        }
    });
}
