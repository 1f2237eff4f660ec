// Pixels of a baked scene, from bytes; and how its colours should change, while it is made.
#include "baked_render/march.h"
#include <vector>

#include "encodings/sh.h"
#include "shared/export.h"
#include "shared/parallel.h"

namespace {

using namespace nk::baked;
using nk::vf8;

// Weighted sums of records. A sample's bytes are asked for when it is met and read at the ray's end:
// they are seldom in the cache.
struct Bytes {
    struct Sample {
        const uint8_t *brick, *ranks, *block;
        float weight;
        Half half;
        vf8 share;   // of this sample and those after it in the same voxel
        bool first;  // in its voxel
    };
    static constexpr int MOST = 64;
    const Scene& s;
    const uint8_t *records, *bricks;
    float weight = 0.f;
    vf8 sum[3] = {}, detail = {};
    Sample waiting[MOST];
    int count = 0, latest = 0;

    void clear() { weight = 0.f, sum[0] = sum[1] = sum[2] = detail = vf8{}; }

    void operator()(int64_t place, int32_t voxel, int32_t corner, float w, float fx, float fy,
                    float fz) {
        weight += w;
        if (count == MOST) read();
        Sample& sample = waiting[count];
        sample.half = Half(fx, fy, fz);
        sample.weight = w;
        sample.ranks = s.ranks + place * ROW + corner;
        const vf8 share = shares(w, fx, fy, fz);
        sample.first = !count || waiting[latest].ranks != sample.ranks;
        if (sample.first) {
            latest = count;
            sample.share = share;
            sample.block = records + static_cast<int64_t>(s.first[place]) * RECORD;
            __builtin_prefetch(sample.ranks);
        } else {
            waiting[latest].share += share;
        }
        sample.brick = bricks + (brick_of(s, place, voxel) * BRICK + sample.half.corner) * DETAIL;
        __builtin_prefetch(sample.brick);
        __builtin_prefetch(sample.brick + (Half::PAIR[3] + 1) * DETAIL);
        ++count;
    }

    void read() {
        for (int n = 0; n < count; ++n) {
            const Sample& sample = waiting[n];
            const float* f = sample.half.f;
            const Pairs pairs(sample.weight, f[1], f[2]);
            const float x1 = f[0], x0 = 1.f - x1;
            for (int p = 0; p < 4; ++p) {
                const uint8_t* pair = sample.brick + Half::PAIR[p] * DETAIL;
                detail += pairs.y[p] * (x0 * nk::baked::load_bytes(pair) +
                                        x1 * nk::baked::load_bytes(pair + DETAIL));
            }
            if (!sample.first) continue;
            for (int c = 0; c < 8; ++c) {
                const uint8_t* record = sample.block + sample.ranks[OFFSET[c]] * RECORD;
                for (int i = 0; i < 3; ++i)
                    sum[i] += sample.share[c] * nk::baked::load_bytes(record + 8 * i);
            }
        }
        count = 0;
    }
};

// RGB of a record and a detail in a direction with these harmonics.
void weigh(const float* harmonics, const float* record, const float* detail, float* rgb) {
    float grey = 0.f;
    for (int i = 0; i < GREYS; ++i) grey += harmonics[1 + i] * detail[3 + i];
    for (int d = COLOURED; d < HARMONICS; ++d) grey += harmonics[d] * record[2 * COLOURED + d];
    for (int a = 0; a < 3; ++a) {
        rgb[a] = detail[a] + grey;
        for (int d = 0; d < COLOURED; ++d) rgb[a] += harmonics[d] * record[3 * d + a];
    }
}

// Harmonics of `count` directions, VL at most.
void look(const float* directions, int64_t count, float (*harmonics)[HARMONICS]) {
    nk::vf v[3]{}, y[HARMONICS];
    for (int64_t l = 0; l < count; ++l)
        for (int a = 0; a < 3; ++a) v[a][l] = directions[l * 3 + a];
    nk::sh_basis(v[0], v[1], v[2], BANDS, y);
    for (int64_t l = 0; l < count; ++l)
        for (int d = 0; d < HARMONICS; ++d) harmonics[l][d] = y[d][l];
}

// Unshaded samples have the mean colour of the others; where there are no others none is seen.
void finish(const Bytes& bytes, float opacity, const float* levels, const float* detail_levels,
            const float* harmonics, const float* background, float* color) {
    const bool any = bytes.weight > 0.f;
    const float behind = any ? 1.f - opacity : 1.f;
    for (int a = 0; a < 3; ++a) color[a] = background ? behind * background[a] : 0.f;
    if (!any) return;
    float sums[RECORD];
    std::memcpy(sums, bytes.sum, sizeof sums);
    const float mean = 1.f / bytes.weight;
    for (int c = 0; c < RECORD; ++c) sums[c] = levels[c] + levels[RECORD + c] * mean * sums[c];
    float rgb[3], fine[DETAIL];
    for (int i = 0; i < DETAIL; ++i)
        fine[i] = detail_levels[i] + detail_levels[DETAIL + i] * mean * bytes.detail[i];
    weigh(harmonics, sums, fine, rgb);
    for (int a = 0; a < 3; ++a) color[a] += opacity * rgb[a];
}

// A table of colours that is fitted, C values a row.
template <int C>
struct Table {
    const float* values;
    const int32_t* rows;
    uint8_t* locks;
    float* grads;
    uint8_t* touched;

    // Adds share * change to the gradient of a row.
    void add(int64_t row, float share, const float* change) const {
        while (__atomic_exchange_n(locks + row, 1, __ATOMIC_ACQUIRE)) continue;
        float* grad = grads + row * C;
        for (int i = 0; i < C; ++i) grad[i] += share * change[i];
        touched[row] = 1;
        __atomic_store_n(locks + row, 0, __ATOMIC_RELEASE);
    }
};

// Samples of a ray, with the rows of their corners.
struct Samples {
    struct Sample {
        int32_t rows[8], detail_rows[8];
        vf8 share, detail_share;
    };
    const Scene& s;
    Table<RECORD> components;
    Table<DETAIL> details;
    std::vector<Sample> all{};
    float weight = 0.f, sum[RECORD] = {}, detail[DETAIL] = {};

    void clear() {
        all.clear(), weight = 0.f;
        std::fill(sum, sum + RECORD, 0.f), std::fill(detail, detail + DETAIL, 0.f);
    }

    void operator()(int64_t place, int32_t voxel, int32_t corner, float w, float fx, float fy,
                    float fz) {
        weight += w;
        const Half half(fx, fy, fz);
        const int32_t* brick = details.rows + brick_of(s, place, voxel) * BRICK + half.corner;
        Sample sample;
        sample.share = shares(w, fx, fy, fz);
        sample.detail_share = shares(w, half.f[0], half.f[1], half.f[2]);
        for (int c = 0; c < 8; ++c) {
            sample.rows[c] = components.rows[s.first[place] + s.ranks[place * ROW + corner + OFFSET[c]]];
            sample.detail_rows[c] = brick[Half::PAIR[c / 2] + c % 2];
            const float* record = components.values + static_cast<int64_t>(sample.rows[c]) * RECORD;
            const float* fine = details.values + static_cast<int64_t>(sample.detail_rows[c]) * DETAIL;
            for (int i = 0; i < RECORD; ++i) sum[i] += sample.share[c] * record[i];
            for (int i = 0; i < DETAIL; ++i) detail[i] += sample.detail_share[c] * fine[i];
        }
        all.push_back(sample);
    }
};

Scene scene_of(int64_t resolution, const int32_t* places, const uint8_t* distances,
               const uint64_t* words, const int16_t* density, const uint8_t* ranks,
               const int32_t* first, const int32_t* first_brick, const float* settings) {
    Scene s{};
    s.resolution = static_cast<int32_t>(resolution);
    s.n = static_cast<int32_t>((resolution + 3) / 4);
    s.places = places, s.distances = distances, s.words = words, s.density = density;
    s.ranks = ranks, s.first = first, s.first_brick = first_brick;
    std::copy(settings, settings + 3, s.box_min);
    s.voxel = settings[3];
    s.step = settings[8], s.near = settings[9], s.far = settings[10];
    s.early_stop = settings[11], s.weight_min = settings[12];
    s.transparency.tabulate(settings[6], s.step, settings[4] + settings[7], settings[5]);
    return s;
}

// VL rays at a time with what their shades have gathered: each(first ray, rays, depths, opacities).
template <class Shade, class Each>
void march(const Scene& s, const float* origins, int64_t stride, const float* directions,
           int64_t begin, int64_t end, Shade* shades, const Each& each) {
    const Tile tile(s, origins + begin * stride, stride, directions + begin * 3, end - begin);
    const float empty = tile.skip(s, 0, tile.count, 0.f);
    float start = 0.f;
    for (int64_t i = 0; i < tile.count; i += nk::VL) {
        if (i % SMALL_TILE == 0)
            start = tile.skip(s, i, std::min(i + SMALL_TILE, tile.count), empty);
        for (int l = 0; l < nk::VL; ++l) shades[l].clear();
        nk::baked::Seen seen;
        if (start < s.far) seen = March<Shade>(s, tile, i, shades).run(start);
        each(begin + i, std::min<int64_t>(nk::VL, tile.count - i), seen);
    }
}

}  // namespace

NK_EXPORT void nk_baked_render_forward(
    const float* origins, int64_t origin_stride, const float* directions, const float* background,
    int64_t background_stride, int64_t n_rays, int64_t resolution, const int32_t* places,
    const uint8_t* distances, const uint64_t* words, const int16_t* density, const uint8_t* ranks,
    const int32_t* first, const int32_t* first_brick, const uint8_t* records, const float* levels,
    const uint8_t* bricks, const float* detail_levels, const float* settings,
    float* max_weights, float* colors, float* depths, float* opacities) {
    Scene s = scene_of(resolution, places, distances, words, density, ranks, first, first_brick,
                       settings);
    s.max_weights = max_weights;
    std::vector<Bytes> shades(nk::num_threads() * nk::VL, Bytes{s, records, bricks});
    nk::parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int thread) {
        Bytes* gathered = shades.data() + thread * nk::VL;
        march(s, origins, origin_stride, directions, begin, end, gathered,
              [&](int64_t ray, int64_t count, const nk::baked::Seen& seen) {
                  float harmonics[nk::VL][HARMONICS];
                  if (nk::baked::lane_bits(seen.opacity > nk::vf{}))
                      look(directions + ray * 3, count, harmonics);
                  for (int64_t l = 0; l < count; ++l) {
                      const int64_t r = ray + l;
                      const float* behind = background ? background + r * background_stride : nullptr;
                      gathered[l].read();
                      finish(gathered[l], seen.opacity[l], levels, detail_levels, harmonics[l],
                             behind, colors + r * 3);
                      depths[r] = seen.depth[l], opacities[r] = seen.opacity[l];
                  }
              });
    });
}

NK_EXPORT void nk_baked_render_gradient(
    const float* origins, const float* directions, const float* background, const float* targets,
    int64_t n_rays, int64_t resolution, const int32_t* places, const uint8_t* distances,
    const uint64_t* words, const int16_t* density, const uint8_t* ranks, const int32_t* first,
    const int32_t* first_brick, const float* settings, const float* values,
    const int32_t* rows, uint8_t* locks, float* grads, uint8_t* touched,
    const float* detail_values, const int32_t* detail_rows, uint8_t* detail_locks,
    float* detail_grads, uint8_t* detail_touched, float* losses) {
    const Scene s = scene_of(resolution, places, distances, words, density, ranks, first,
                             first_brick, settings);
    const Table<RECORD> components{values, rows, locks, grads, touched};
    const Table<DETAIL> details{detail_values, detail_rows, detail_locks, detail_grads,
                                detail_touched};
    const auto add = [&](int64_t r, const Samples& samples, float opacity) {
        const bool any = samples.weight > 0.f;
        float harmonics[HARMONICS], rgb[3], step[RECORD] = {}, fine[DETAIL] = {};
        const float* v = directions + r * 3;
        nk::sh_basis(v[0], v[1], v[2], BANDS, harmonics);
        weigh(harmonics, samples.sum, samples.detail, rgb);
        const float scale = any ? opacity / samples.weight : 0.f;
        const float behind = any ? 1.f - opacity : 1.f;
        losses[r] = 0.f;
        for (int a = 0; a < 3; ++a) {
            const float error = behind * background[a] - targets[r * 3 + a] +
                                scale * rgb[a];
            losses[r] += error * error;
            fine[a] = 2.f * scale * error;
            for (int i = 0; i < GREYS; ++i) fine[3 + i] += harmonics[1 + i] * fine[a];
            for (int d = 0; d < COLOURED; ++d) step[d * 3 + a] = harmonics[d] * fine[a];
            for (int d = COLOURED; d < HARMONICS; ++d)
                step[2 * COLOURED + d] += harmonics[d] * fine[a];
        }
        for (const auto& sample : samples.all)
            for (int c = 0; c < 8; ++c) {
                components.add(sample.rows[c], sample.share[c], step);
                details.add(sample.detail_rows[c], sample.detail_share[c], fine);
            }
    };
    std::vector<Samples> shades(nk::num_threads() * nk::VL, Samples{s, components, details});
    nk::parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int thread) {
        Samples* gathered = shades.data() + thread * nk::VL;
        march(s, origins, 3, directions, begin, end, gathered,
              [&](int64_t ray, int64_t count, const nk::baked::Seen& seen) {
                  for (int64_t l = 0; l < count; ++l)
                      add(ray + l, gathered[l], seen.opacity[l]);
              });
    });
}
