// The field the fused renderer evaluates: density and features on voxel corners, and the colour
// network on features and view direction.
#pragma once
#include <cstdint>
#include <vector>

#include "fused_mlp/mlp_tile.h"
#include "shared/simd.h"
#include "voxel_features/voxel_grid.h"

namespace nk {

constexpr int MAX_DIRECTION = 16;  // spherical harmonics, at most four bands

struct Field {
    VoxelGrid grid;         // of the features
    GridLevel density_grid; // one level: the finest resolution
    const float* density;   // raw values at the finest vertices
    const float* features;  // [V, FEATURES], summed over the levels
    float density_scale;    // sigma = density_scale * softplus(raw + density_bias)
    float density_bias;
    int bands;              // spherical harmonics of the view direction the network sees
    MlpShape mlp;           // FEATURES + bands^2 inputs, 3 outputs
    const float* mlp_params;
};

struct FieldGradients {
    float* density;             // like Field::density
    float* features;            // [V, FEATURES]
    uint8_t* features_touched;  // [V] set to 1 where a gradient was added
};

// sigma and d sigma / d raw.
inline void activate_density(const Field& field, vf raw, vf& sigma, vf& slope) {
    raw = raw + field.density_bias;
    const vf e = exp(min(raw, splat(20.f)));
    // log1p(e) for small e, where log(1 + e) would round to nothing
    const vf soft = select(raw > splat(15.f), raw, select(e < splat(1e-3f), e - 0.5f * e * e, log(1.f + e)));
    sigma = soft * field.density_scale;
    slope = e / (1.f + e) * field.density_scale;
}

// Corner indices and weights of one sample at every level, for the feature lookup.
struct SampleCorners {
    int32_t index[MAX_LEVELS * 8];
    float weight[MAX_LEVELS * 8];
};

// All eight corners of a level at once, one a lane, x fastest.
inline void find_sample_corners(const VoxelGrid& grid, const float* p, const int32_t* cell,
                                SampleCorners& out) {
    constexpr vi8 OX = {0, 1, 0, 1, 0, 1, 0, 1}, OY = {0, 0, 1, 1, 0, 0, 1, 1},
                  OZ = {0, 0, 0, 0, 1, 1, 1, 1};
    constexpr vf8 SX = {-1, 1, -1, 1, -1, 1, -1, 1}, SY = {-1, -1, 1, 1, -1, -1, 1, 1},
                  SZ = {-1, -1, -1, -1, 1, 1, 1, 1};
    constexpr vf8 BX = {1, 0, 1, 0, 1, 0, 1, 0}, BY = {1, 1, 0, 0, 1, 1, 0, 0},
                  BZ = {1, 1, 1, 1, 0, 0, 0, 0};
    for (int l = 0; l < grid.n_levels; ++l) {
        const GridLevel& level = grid.level[l];
        const int32_t n = level.n, x = cell[0] >> level.shift, y = cell[1] >> level.shift,
                      z = cell[2] >> level.shift;
        const vi8 vx = x + OX, vy = y + OY, vz = z + OZ;
        const vi8 local = (vx & 3) + ((vy & 3) << 2) + ((vz & 3) << 4);
        const int32_t* low = level.bricks + ((z >> 2) * n + (y >> 2)) * n + (x >> 2);
        vi8 place;
        if (((x + 1) & 3) && ((y + 1) & 3) && ((z + 1) & 3)) {
            place = vi8{} + *low;
        } else {  // the corners lie in several bricks
            const int32_t dx = (x & 3) == 3, dy = (y & 3) == 3 ? n : 0, dz = (z & 3) == 3 ? n * n : 0;
            place = gather8(low, OX * dx + OY * dy + OZ * dz);
        }
        const vi8 index = (place << 6) + local;
        const float fx = p[0] * level.scale - static_cast<float>(x),
                    fy = p[1] * level.scale - static_cast<float>(y),
                    fz = p[2] * level.scale - static_cast<float>(z);
        const vf8 weight = (BX + SX * fx) * (BY + SY * fy) * (BZ + SZ * fz);
        std::memcpy(out.index + l * 8, &index, sizeof index);
        std::memcpy(out.weight + l * 8, &weight, sizeof weight);
    }
}

// Random access to more memory than the caches hold: ask early. `Write` is a compile-time constant.
template <int Write>
inline void prefetch_records(const float* records, const SampleCorners& s, int n) {
    for (int c = 0; c < n; ++c)
        __builtin_prefetch(records + static_cast<int64_t>(s.index[c]) * FEATURES, Write);
}

constexpr int FV = FEATURES / VL ? FEATURES / VL : 1;  // vectors a record

inline void interpolate_features(const float* features, const SampleCorners& s, int n, float* out) {
    vf sum[FV] = {};
    for (int c = 0; c < n; ++c) {
        const float* record = features + static_cast<int64_t>(s.index[c]) * FEATURES;
        for (int v = 0; v < FV; ++v) sum[v] += s.weight[c] * load(record + v * VL);
    }
    for (int v = 0; v < FV; ++v) store(out + v * VL, sum[v]);
}

inline void scatter_features(FieldGradients& grads, const SampleCorners& s, int n, const float* gradient) {
    vf g[FV];
    for (int v = 0; v < FV; ++v) g[v] = load(gradient + v * VL);
    for (int c = 0; c < n; ++c) {
        float* record = grads.features + static_cast<int64_t>(s.index[c]) * FEATURES;
        for (int v = 0; v < FV; ++v) store(record + v * VL, load(record + v * VL) + s.weight[c] * g[v]);
        grads.features_touched[s.index[c]] = 1;
    }
}

// Slope along x, y and z of the interpolation of eight corner values, whose weights tell the place.
template <class T>
inline void trilinear_slope(const T* weight, const T* value, T* out) {
    const T fx = weight[1] + weight[3] + weight[5] + weight[7],
            fy = weight[2] + weight[3] + weight[6] + weight[7],
            fz = weight[4] + weight[5] + weight[6] + weight[7];
    const T gx = 1.f - fx, gy = 1.f - fy, gz = 1.f - fz;
    out[0] = gz * (gy * (value[1] - value[0]) + fy * (value[3] - value[2])) +
             fz * (gy * (value[5] - value[4]) + fy * (value[7] - value[6]));
    out[1] = gz * (gx * (value[2] - value[0]) + fx * (value[3] - value[1])) +
             fz * (gx * (value[6] - value[4]) + fx * (value[7] - value[5]));
    out[2] = gy * (gx * (value[4] - value[0]) + fx * (value[5] - value[1])) +
             fy * (gx * (value[6] - value[2]) + fx * (value[7] - value[3]));
}

// Adds the gradient of a sample's place, in finest voxels, from that of its features.
inline void place_gradient(const VoxelGrid& grid, const float* features, const SampleCorners& s,
                           const float* gradient, float* out) {
    for (int l = 0; l < grid.n_levels; ++l) {
        float along[8], slope[3];
        for (int c = 0; c < 8; ++c) {
            const float* record = features + static_cast<int64_t>(s.index[l * 8 + c]) * FEATURES;
            along[c] = 0.f;
            for (int k = 0; k < FEATURES; ++k) along[c] += record[k] * gradient[k];
        }
        trilinear_slope(s.weight + l * 8, along, slope);
        for (int a = 0; a < 3; ++a) out[a] += grid.level[l].scale * slope[a];
    }
}

}  // namespace nk
