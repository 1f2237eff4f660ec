// Pixels of a baked scene, from bytes; and how its colours should change, while it is made.
#include "baked_render/march.h"
#include <vector>

#include "encodings/sh.h"
#include "shared/export.h"
#include "shared/parallel.h"

namespace {

using namespace nk::baked;
using nk::vf8;

// Weighted sums of records.
struct Bytes {
    const Scene& s;
    const uint8_t* records;
    float weight = 0.f;
    vf8 sum[2] = {};

    void clear() { weight = 0.f, sum[0] = sum[1] = vf8{}; }

    void operator()(int64_t place, int32_t corner, float w, float fx, float fy, float fz) {
        weight += w;
        const vf8 share = shares(w, fx, fy, fz);
        const uint8_t* ranks = s.ranks + place * ROW + corner;
        const uint8_t* block = records + static_cast<int64_t>(s.first[place]) * RECORD;
        for (int c = 0; c < 8; ++c) {
            const uint8_t* record = block + ranks[OFFSET[c]] * RECORD;
            sum[0] += share[c] * nk::baked::load_bytes(record);
            sum[1] += share[c] * nk::baked::load_bytes(record + 8);
        }
    }
};

// What the components weigh in a direction.
void component_weights(const float* views, const float* direction, float* weights) {
    float harmonics[HARMONICS];
    nk::sh_basis(direction[0], direction[1], direction[2], BANDS, harmonics);
    for (int d = 0; d < COMPONENTS; ++d) {
        weights[d] = 0.f;
        for (int h = 0; h < HARMONICS; ++h) weights[d] += views[d * HARMONICS + h] * harmonics[h];
    }
}

// Unshaded samples have the mean colour of the others; where there are no others none is seen.
void finish(const Bytes& bytes, float opacity, const float* levels, const float* views,
            const float* direction, const float* background, float* color) {
    const bool any = bytes.weight > 0.f;
    const float behind = any ? 1.f - opacity : 1.f;
    for (int a = 0; a < 3; ++a) color[a] = background ? behind * background[a] : 0.f;
    if (!any) return;
    float weights[COMPONENTS], sums[RECORD];
    component_weights(views, direction, weights);
    std::memcpy(sums, bytes.sum, sizeof sums);
    const float mean = 1.f / bytes.weight;
    for (int d = 0; d < COMPONENTS; ++d)
        for (int a = 0; a < 3; ++a) {
            const int c = d * 3 + a;
            color[a] += opacity * weights[d] * (levels[c] + levels[RECORD + c] * mean * sums[c]);
        }
}

// Samples of a ray, with the rows of their corners.
struct Samples {
    struct Sample {
        int32_t rows[8];
        vf8 share;
    };
    const Scene& s;
    const int32_t* rows;
    const float* values;
    std::vector<Sample> all{};
    float weight = 0.f;
    vf8 sum[2] = {};

    void clear() { all.clear(), weight = 0.f, sum[0] = sum[1] = vf8{}; }

    void operator()(int64_t place, int32_t corner, float w, float fx, float fy, float fz) {
        weight += w;
        Sample sample;
        sample.share = shares(w, fx, fy, fz);
        for (int c = 0; c < 8; ++c) {
            sample.rows[c] = rows[s.first[place] + s.ranks[place * ROW + corner + OFFSET[c]]];
            vf8 record[2];
            std::memcpy(record, values + static_cast<int64_t>(sample.rows[c]) * RECORD, sizeof record);
            sum[0] += sample.share[c] * record[0], sum[1] += sample.share[c] * record[1];
        }
        all.push_back(sample);
    }
};

Scene scene_of(int64_t resolution, const int32_t* places, const uint8_t* distances,
               const uint64_t* words, const int16_t* density, const uint8_t* ranks,
               const int32_t* first, const float* settings) {
    Scene s{};
    s.resolution = static_cast<int32_t>(resolution);
    s.n = static_cast<int32_t>((resolution + 3) / 4);
    s.places = places, s.distances = distances, s.words = words, s.density = density;
    s.ranks = ranks, s.first = first;
    std::copy(settings, settings + 3, s.box_min);
    s.voxel = settings[3];
    s.step = settings[8], s.near = settings[9], s.far = settings[10];
    s.early_stop = settings[11], s.weight_min = settings[12];
    s.transparency.tabulate(settings[6], s.step, settings[4] + settings[7], settings[5]);
    return s;
}

// Every ray with what `shade` gathers from it: each(ray, what was seen).
template <class Shade, class Each>
void march(const Scene& s, const float* origins, int64_t stride, const float* directions,
           int64_t begin, int64_t end, Shade& shade, const Each& each) {
    Tile tile;
    tile.load(s, origins + begin * stride, stride, directions + begin * 3, end - begin);
    const float empty = tile.skip(s, 0, end - begin, 0.f);
    int32_t first[TILE];
    for (int64_t i = 0; i < end - begin; ++i) {
        if (i % SMALL_TILE == 0) {
            const int64_t last = std::min(i + SMALL_TILE, end - begin);
            tile.advance(s, i, last, tile.skip(s, i, last, empty), first);
        }
        shade.clear();
        nk::baked::Seen seen;
        if (first[i] >= 0)
            seen = March<Shade>(s, tile, i, shade).run(first[i], tile.t_out[i]);
        each(begin + i, seen);
    }
}

}  // namespace

NK_EXPORT void nk_baked_render_forward(
    const float* origins, int64_t origin_stride, const float* directions, const float* background,
    int64_t background_stride, int64_t n_rays, int64_t resolution, const int32_t* places,
    const uint8_t* distances, const uint64_t* words, const int16_t* density, const uint8_t* ranks,
    const int32_t* first, const uint8_t* records, const float* levels, const float* views,
    const float* settings, float* max_weights, float* colors, float* depths, float* opacities) {
    Scene s = scene_of(resolution, places, distances, words, density, ranks, first, settings);
    s.max_weights = max_weights;
    nk::parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int) {
        Bytes bytes{s, records};
        march(s, origins, origin_stride, directions, begin, end, bytes,
              [&](int64_t r, const nk::baked::Seen& seen) {
                  finish(bytes, seen.opacity, levels, views, directions + r * 3,
                         background ? background + r * background_stride : nullptr, colors + r * 3);
                  depths[r] = seen.depth, opacities[r] = seen.opacity;
              });
    });
}

NK_EXPORT void nk_baked_render_gradient(
    const float* origins, const float* directions, const float* background, const float* targets,
    int64_t n_rays, int64_t resolution, const int32_t* places, const uint8_t* distances,
    const uint64_t* words, const int16_t* density, const uint8_t* ranks, const int32_t* first,
    const int32_t* rows, const float* values, const float* views, const float* settings,
    uint8_t* locks, float* grads, uint8_t* touched, float* losses) {
    const Scene s = scene_of(resolution, places, distances, words, density, ranks, first, settings);
    nk::parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int) {
        Samples samples{s, rows, values};
        march(s, origins, 3, directions, begin, end, samples,
              [&](int64_t r, const nk::baked::Seen& seen) {
            const bool any = samples.weight > 0.f;
            float weights[COMPONENTS], sums[RECORD], error[3], step[RECORD] = {};
            component_weights(views, directions + r * 3, weights);
            std::memcpy(sums, samples.sum, sizeof sums);
            const float scale = any ? seen.opacity / samples.weight : 0.f;
            const float behind = any ? 1.f - seen.opacity : 1.f;
            losses[r] = 0.f;
            for (int a = 0; a < 3; ++a) {
                error[a] = behind * background[a] - targets[r * 3 + a];
                for (int d = 0; d < COMPONENTS; ++d)
                    error[a] += scale * weights[d] * sums[d * 3 + a];
                losses[r] += error[a] * error[a];
                for (int d = 0; d < COMPONENTS; ++d) step[d * 3 + a] = 2.f * scale * weights[d] * error[a];
            }
            vf8 change[2];
            std::memcpy(change, step, sizeof change);
            for (const auto& sample : samples.all)
                for (int c = 0; c < 8; ++c) {
                    const int64_t row = sample.rows[c];
                    while (__atomic_exchange_n(locks + row, 1, __ATOMIC_ACQUIRE)) continue;
                    vf8 grad[2];
                    std::memcpy(grad, grads + row * RECORD, sizeof grad);
                    grad[0] += sample.share[c] * change[0], grad[1] += sample.share[c] * change[1];
                    std::memcpy(grads + row * RECORD, grad, sizeof grad);
                    touched[row] = 1;
                    __atomic_store_n(locks + row, 0, __ATOMIC_RELEASE);
                }
        });
    });
}
