// One tile of rays through the whole pipeline: march, look up density, composite, look up features,
// evaluate the colour network; and the same backwards. Nothing of a sample outlives its tile.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "encodings/sh.h"
#include "fused_render/field.h"
#include "first_hit/march.h"
#include "shared/buffer.h"

namespace nk {

constexpr int CHUNK = 128;  // samples the network sees at a time: activations stay in the L2 cache
constexpr int AHEAD = 2;    // samples whose memory is asked for in advance
constexpr int64_t STRIDE = tile_stride(CHUNK);

struct Sampling {
    Occupancy occupancy;
    float box_min[3];
    float voxel;       // edge of a finest voxel
    float step;        // distance between lattice points of a ray
    float near, far;
    float early_stop;  // a ray ends where its transmittance falls below this
    float weight_min;  // samples that weigh less have no colour
    float distortion;  // weight of the spread of a ray's weights in the loss
};

// A straight part of a ray in the octree's space: [origin 3, unit direction 3, length, u, du, m, dm].
// What lies s along it lies t = (m + s dm) / (u + s du) along the ray in the world.
constexpr int PIECE = 11;

struct RayBundle {
    const float* origins;      // [R, 3]
    const float* directions;   // [R, 3] unit
    const float* jitter;       // [R] in [0, 1), or null for 0.5
    const float* backgrounds;  // [R, 3], or null for black
    const float* pieces;       // [P, PIECE], ray by ray, or null where rays are straight
    const int64_t* first;      // [R + 1] first piece of every ray
};

struct RayResult {
    float color[3];
    float depth;    // sum of weight * t
    float opacity;  // sum of weights
};

struct RayGradient {
    float color[3];
    float depth, opacity;
};

// What a march batch leaves behind for shading and for the backward pass.
struct BatchRecord {
    int32_t ray;  // within the tile
    int32_t count;
    float t[VL], slope[VL], weight[VL], after[VL];
    float s[VL];          // as t, but in the octree's space
    int32_t row;          // of the ray, or of its piece
    float travelled;      // s where the piece begins
    float gradient[VL];   // backward: d L / d weight by way of the colour, then d L / d raw
    int32_t shaded[VL];   // row in the shaded list, or -1
    int32_t index[8][VL];  // corners of the density lookup
    float corner_weight[8][VL];
};

struct ShadedSample {
    int32_t batch, lane;
    SampleCorners corners;
};

class Tile {
  public:
    // Called once before a series of tiles.
    void prepare(const Field& field, const Sampling& sampling) {
        field_ = &field;
        sampling_ = &sampling;
        n_in_ = field.mlp.width[0];
        ld_inputs_ = pad_lanes(n_in_);
        chunk_floats_ = (n_in_ + field.mlp.hidden_rows() + 3) * STRIDE;
    }
    void forward(const RayBundle& rays, int64_t begin, int64_t end, RayResult* results);
    // After forward() on the same rays. `mlp_gradient` is padded as mlp_backward_tile wants it.
    void backward(const RayBundle& rays, int64_t begin, const RayGradient* gradients,
                  FieldGradients& grads, float* mlp_gradient, float distortion = 0.f,
                  float* ray_gradient = nullptr);
    // Largest weight seen in a voxel, kept at the voxel's lowest corner.
    void record_weights(float* max_weight) const;

    int64_t samples() const { return n_samples_; }
    int64_t shaded() const { return static_cast<int64_t>(shaded_.size()); }

  private:
    // A chunk of the shaded list: the network's input, hidden layers and output, feature-major.
    struct Chunk {
        float *x, *hidden, *rgb;
        int count, padded;  // samples; the same up to a multiple of VL
    };
    Chunk chunk(int64_t first) {
        Chunk c;
        c.x = &activations_[first / CHUNK * chunk_floats_];
        c.hidden = c.x + n_in_ * STRIDE;
        c.rgb = c.hidden + field_->mlp.hidden_rows() * STRIDE;
        c.count = static_cast<int>(std::min<int64_t>(CHUNK, shaded() - first));
        c.padded = static_cast<int>(pad_lanes(c.count));
        return c;
    }
    void march(const RayBundle& rays, int64_t begin, int64_t end, RayResult* results);
    void march_piece(const float* origin, const float* direction, RayMarcher marcher, int ray,
                     int64_t row, float travelled, const float* piece, float& transmittance,
                     RayResult& result);
    void shade();
    // `distortion`: of the loss of a ray, already multiplied by the factor of its colours' errors.
    void weight_gradients(const RayBundle& rays, int64_t begin, const RayGradient* gradients,
                          float distortion);
    void scatter_density(FieldGradients& grads) const;
    // Adds to `ray_gradient` [rays or pieces, 6], of origins and directions, what the densities say.
    void density_slopes(float* ray_gradient) const;
    void add_ray_gradient(const BatchRecord& record, int lane, const float* place, float* out) const {
        const float s = record.s[lane] - record.travelled;
        float* row = out + static_cast<int64_t>(record.row) * 6;
        for (int a = 0; a < 3; ++a) {
            const float g = place[a] / sampling_->voxel;
            row[a] += g;
            row[3 + a] += s * g;
        }
    }

    const Field* field_ = nullptr;
    const Sampling* sampling_ = nullptr;
    int n_in_ = 0;
    int64_t ld_inputs_ = 0, chunk_floats_ = 0;
    int64_t n_samples_ = 0;
    Buffer<BatchRecord> batches_;
    Buffer<ShadedSample> shaded_;
    Buffer<float> directions_;   // [rays, MAX_DIRECTION]
    Buffer<float> moments_;      // [rays, 2] sums of weight and of weight s
    Buffer<float> inputs_;       // [shaded, ld_inputs] features, then direction, then zeros
    Buffer<float> activations_;  // [chunks, chunk_floats]
    Buffer<float> rows_;         // [CHUNK, FEATURES]
    Buffer<float> scratch_;
};

inline void Tile::march(const RayBundle& rays, int64_t begin, int64_t end, RayResult* results) {
    const Field& field = *field_;
    const Sampling& sampling = *sampling_;
    batches_.clear();
    shaded_.clear();
    n_samples_ = 0;
    directions_.resize(static_cast<size_t>(end - begin) * MAX_DIRECTION);
    moments_.resize(static_cast<size_t>(end - begin) * 2);
    std::fill(moments_.data(), moments_.data() + (end - begin) * 2, 0.f);
    const float per_voxel = 1.f / sampling.voxel;
    for (int64_t r = begin; r < end; ++r) {
        const int ray = static_cast<int>(r - begin);
        const float* d = rays.directions + r * 3;
        sh_basis(d[0], d[1], d[2], field.bands, &directions_[static_cast<size_t>(ray) * MAX_DIRECTION]);
        const float jitter = rays.jitter ? rays.jitter[r] : 0.5f;
        RayResult result{};
        float transmittance = 1.f, travelled = 0.f;
        const int64_t first = rays.pieces ? rays.first[r] : 0, last = rays.pieces ? rays.first[r + 1] : 1;
        for (int64_t i = first; i < last && transmittance >= sampling.early_stop; ++i) {
            const float* piece = rays.pieces ? rays.pieces + i * PIECE : nullptr;
            const float *start = piece ? piece : rays.origins + r * 3, *way = piece ? piece + 3 : d;
            float origin[3], direction[3];
            for (int a = 0; a < 3; ++a) {
                origin[a] = (start[a] - sampling.box_min[a]) * per_voxel;
                direction[a] = way[a] * per_voxel;
            }
            // one lattice goes through all pieces
            const float shift = jitter - travelled / sampling.step;
            RayMarcher marcher(sampling.occupancy, origin, direction, piece ? 0.f : sampling.near,
                               piece ? piece[6] : sampling.far, sampling.step,
                               piece ? shift - std::floor(shift) : jitter);
            march_piece(origin, direction, marcher, ray, piece ? i : r, travelled, piece, transmittance,
                        result);
            if (piece) travelled += piece[6];
        }
        results[ray] = result;
    }
}

inline void Tile::march_piece(const float* origin, const float* direction, RayMarcher marcher, int ray,
                              int64_t row, float travelled, const float* piece, float& transmittance,
                              RayResult& result) {
    const Field& field = *field_;
    const Sampling& sampling = *sampling_;
    float* moments = &moments_[static_cast<size_t>(ray) * 2];
    Batch batch;
    while (transmittance >= sampling.early_stop) {
        marcher.next(batch);
        if (!batch.count) return;
        const vf s = load(batch.t);
        Points p;
        p.x = origin[0] + s * direction[0];
        p.y = origin[1] + s * direction[1];
        p.z = origin[2] + s * direction[2];
        std::memcpy(&p.cx, batch.x, sizeof p.cx);
        std::memcpy(&p.cy, batch.y, sizeof p.cy);
        std::memcpy(&p.cz, batch.z, sizeof p.cz);
        Corners corners;
        find_corners(field.density_grid, p, corners);
        vf raw{};
        for (int c = 0; c < 8; ++c) raw += corners.weight[c] * gather(field.density, corners.index[c]);
        vf sigma, slope;
        activate_density(field, raw, sigma, slope);
        const vf keep = exp(-sigma * sampling.step);
        float kept[VL];
        store(kept, keep);
        BatchRecord& record = batches_.push();
        record.ray = ray;
        record.row = static_cast<int32_t>(row);
        record.travelled = travelled;
        store(record.t, piece ? (piece[9] + s * piece[10]) / (piece[7] + s * piece[8]) : s);
        store(record.s, s + travelled);
        store(record.slope, slope);
        std::memcpy(record.index, corners.index, sizeof record.index);
        std::memcpy(record.corner_weight, corners.weight, sizeof record.corner_weight);
        int i = 0;
        for (; i < batch.count && transmittance >= sampling.early_stop; ++i) {
            const float weight = transmittance * (1.f - kept[i]);
            transmittance *= kept[i];
            record.weight[i] = weight;
            record.after[i] = transmittance;
            record.shaded[i] = -1;
            result.depth += weight * record.t[i];
            result.opacity += weight;
            moments[0] += weight;
            moments[1] += weight * record.s[i];
            if (weight > sampling.weight_min) {
                record.shaded[i] = static_cast<int32_t>(shaded_.size());
                ShadedSample& sample = shaded_.push();
                sample.batch = static_cast<int32_t>(batches_.size()) - 1;
                sample.lane = i;
                const float point[3] = {p.x[i], p.y[i], p.z[i]};
                const int32_t cell[3] = {batch.x[i], batch.y[i], batch.z[i]};
                find_sample_corners(field.grid, point, cell, sample.corners);
            }
        }
        record.count = i;
        n_samples_ += i;
        if (batch.count < VL) return;
    }
}

inline void Tile::shade() {
    const int64_t n = shaded(), chunks = (n + CHUNK - 1) / CHUNK;
    const int n_corners = field_->grid.n_levels * 8;
    inputs_.resize(static_cast<size_t>(chunks) * CHUNK * ld_inputs_);
    activations_.resize(static_cast<size_t>(chunks) * chunk_floats_);
    for (int64_t s = -AHEAD; s < n; ++s) {
        if (s + AHEAD < n) prefetch_records<0>(field_->features, shaded_[s + AHEAD].corners, n_corners);
        if (s < 0) continue;
        float* row = &inputs_[s * ld_inputs_];
        interpolate_features(field_->features, shaded_[s].corners, n_corners, row);
        const int ray = batches_[shaded_[s].batch].ray;
        std::memcpy(row + FEATURES, &directions_[static_cast<size_t>(ray) * MAX_DIRECTION],
                    sizeof(float) * (n_in_ - FEATURES));
        std::fill(row + n_in_, row + ld_inputs_, 0.f);
    }
    std::fill(inputs_.data() + n * ld_inputs_, inputs_.data() + pad_lanes(n) * ld_inputs_, 0.f);
    for (int64_t first = 0; first < n; first += CHUNK) {
        const Chunk c = chunk(first);
        transpose(&inputs_[first * ld_inputs_], ld_inputs_, c.padded, n_in_, c.x, STRIDE);
        mlp_forward_tile(field_->mlp, field_->mlp_params, c.x, c.padded, STRIDE, c.hidden, c.rgb);
    }
}

inline void Tile::forward(const RayBundle& rays, int64_t begin, int64_t end, RayResult* results) {
    march(rays, begin, end, results);
    shade();
    for (int64_t first = 0; first < shaded(); first += CHUNK) {
        const Chunk c = chunk(first);
        for (int i = 0; i < c.count; ++i) {
            const ShadedSample& s = shaded_[first + i];
            const BatchRecord& record = batches_[s.batch];
            RayResult& result = results[record.ray];
            for (int k = 0; k < 3; ++k)
                result.color[k] += record.weight[s.lane] * c.rgb[k * STRIDE + i];
        }
    }
    if (rays.backgrounds) {
        for (int64_t r = begin; r < end; ++r) {
            RayResult& result = results[r - begin];
            for (int c = 0; c < 3; ++c)
                result.color[c] += (1.f - result.opacity) * rays.backgrounds[r * 3 + c];
        }
    }
}

inline void Tile::backward(const RayBundle& rays, int64_t begin, const RayGradient* gradients,
                           FieldGradients& grads, float* mlp_gradient, float distortion,
                           float* ray_gradient) {
    // Colours: d L / d rgb = weight * gradient, through the network into the features.
    const int n_corners = field_->grid.n_levels * 8;
    rows_.resize(CHUNK * FEATURES);
    const int64_t scratch = field_->mlp.backward_floats(CHUNK, STRIDE);
    scratch_.resize(static_cast<size_t>(scratch + (3 + n_in_) * STRIDE));
    float* upstream = scratch_.data() + scratch;  // [3, STRIDE]
    float* into_inputs = upstream + 3 * STRIDE;   // [n_in, STRIDE]
    for (int64_t first = 0; first < shaded(); first += CHUNK) {
        const Chunk c = chunk(first);
        std::fill(upstream, upstream + 3 * STRIDE, 0.f);
        for (int i = 0; i < c.count; ++i) {
            const ShadedSample& s = shaded_[first + i];
            BatchRecord& record = batches_[s.batch];
            const RayGradient& g = gradients[record.ray];
            float along = 0.f;
            for (int k = 0; k < 3; ++k) {
                upstream[k * STRIDE + i] = record.weight[s.lane] * g.color[k];
                along += g.color[k] * c.rgb[k * STRIDE + i];
            }
            record.gradient[s.lane] = along;
        }
        mlp_backward_tile(field_->mlp, field_->mlp_params, c.x, c.hidden, c.rgb, upstream, c.padded,
                          STRIDE, scratch_.data(), into_inputs, mlp_gradient,
                          &inputs_[first * ld_inputs_], ld_inputs_);
        transpose(into_inputs, STRIDE, FEATURES, c.padded, rows_.data(), FEATURES);
        for (int i = 0; i < c.count; ++i) {
            if (i + AHEAD < c.count)
                prefetch_records<1>(grads.features, shaded_[first + i + AHEAD].corners, n_corners);
            const ShadedSample& s = shaded_[first + i];
            scatter_features(grads, s.corners, n_corners, &rows_[i * FEATURES]);
            if (ray_gradient) {
                float place[3] = {};
                place_gradient(field_->grid, field_->features, s.corners, &rows_[i * FEATURES], place);
                add_ray_gradient(batches_[s.batch], s.lane, place, ray_gradient);
            }
        }
    }
    weight_gradients(rays, begin, gradients, distortion);
    scatter_density(grads);
    if (ray_gradient) density_slopes(ray_gradient);
}

// With g_i = d L / d w_i:  d L / d tau_i = T_{i+1} g_i - sum_{j > i} w_j g_j  (see README.md).
inline void Tile::weight_gradients(const RayBundle& rays, int64_t begin,
                                   const RayGradient* gradients, float distortion) {
    int ray = -1;
    float later = 0.f;
    float weight_behind = 0.f, moment_behind = 0.f;
    for (int64_t b = static_cast<int64_t>(batches_.size()) - 1; b >= 0; --b) {
        BatchRecord& record = batches_[b];
        const RayGradient& g = gradients[record.ray];
        if (record.ray != ray) {
            later = weight_behind = moment_behind = 0.f;
            ray = record.ray;
        }
        float constant = g.opacity;
        if (rays.backgrounds)
            for (int c = 0; c < 3; ++c)
                constant -= g.color[c] * rays.backgrounds[(begin + record.ray) * 3 + c];
        for (int i = record.count - 1; i >= 0; --i) {
            float g_weight = constant + g.depth * record.t[i];
            if (record.shaded[i] >= 0) g_weight += record.gradient[i];
            if (distortion != 0.f) {
                const float w = record.weight[i], s = record.s[i];
                const float* moments = &moments_[static_cast<size_t>(ray) * 2];
                const float before = moments[0] - weight_behind - w;
                const float moment_before = moments[1] - moment_behind - w * s;
                g_weight += distortion * (2.f * (s * (before - weight_behind) - moment_before + moment_behind) +
                                          2.f / 3.f * w * sampling_->step);
                weight_behind += w;
                moment_behind += w * s;
            }
            const float g_tau = record.after[i] * g_weight - later;
            later += record.weight[i] * g_weight;
            record.gradient[i] = g_tau * sampling_->step * record.slope[i];
        }
    }
}

inline void Tile::scatter_density(FieldGradients& grads) const {
    for (size_t b = 0; b < batches_.size(); ++b) {
        const BatchRecord& record = batches_[b];
        if (b + 1 < batches_.size())
            for (int c = 0; c < 8; ++c)
                for (int i = 0; i < VL; i += 2)
                    __builtin_prefetch(grads.density + batches_[b + 1].index[c][i], 1);
        for (int i = 0; i < record.count; ++i)
            for (int c = 0; c < 8; ++c)
                grads.density[record.index[c][i]] += record.corner_weight[c][i] * record.gradient[i];
    }
}

inline void Tile::density_slopes(float* ray_gradient) const {
    for (size_t b = 0; b < batches_.size(); ++b) {
        const BatchRecord& record = batches_[b];
        vf value[8], weight[8], slope[3];
        for (int c = 0; c < 8; ++c) {
            vi index;
            std::memcpy(&index, record.index[c], sizeof index);
            value[c] = gather(field_->density, index);
            weight[c] = load(record.corner_weight[c]);
        }
        trilinear_slope(weight, value, slope);
        for (int i = 0; i < record.count; ++i) {
            const float g = record.gradient[i];
            const float place[3] = {g * slope[0][i], g * slope[1][i], g * slope[2][i]};
            add_ray_gradient(record, i, place, ray_gradient);
        }
    }
}

inline void Tile::record_weights(float* max_weight) const {
    for (size_t b = 0; b < batches_.size(); ++b) {
        const BatchRecord& record = batches_[b];
        for (int i = 0; i < record.count; ++i) {
            float& most = max_weight[record.index[0][i]];
            if (record.weight[i] > most) most = record.weight[i];
        }
    }
}

}  // namespace nk
