// Pixels of a baked scene, from bytes.
#include "baked_render/march.h"
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

// Unshaded samples have the mean colour of the others; where there are no others none is seen.
void finish(const Bytes& bytes, float opacity, const float* levels, const float* views,
            const float* direction, const float* background, float* color) {
    const bool any = bytes.weight > 0.f;
    const float behind = any ? 1.f - opacity : 1.f;
    for (int a = 0; a < 3; ++a) color[a] = background ? behind * background[a] : 0.f;
    if (!any) return;
    float harmonics[HARMONICS], sums[RECORD];
    nk::sh_basis(direction[0], direction[1], direction[2], BANDS, harmonics);
    std::memcpy(sums, bytes.sum, sizeof sums);
    const float mean = 1.f / bytes.weight;
    for (int d = 0; d < COMPONENTS; ++d) {
        float view = 0.f;
        for (int h = 0; h < HARMONICS; ++h) view += views[d * HARMONICS + h] * harmonics[h];
        view *= opacity;
        for (int a = 0; a < 3; ++a) {
            const int c = d * 3 + a;
            color[a] += view * (levels[c] + levels[RECORD + c] * mean * sums[c]);
        }
    }
}

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
    s.ranks = ranks, s.first = first;
    std::copy(settings, settings + 3, s.box_min);
    s.voxel = settings[3];
    s.step = settings[8], s.near = settings[9], s.far = settings[10];
    s.early_stop = settings[11], s.weight_min = settings[12];
    s.transparency.tabulate(settings[6], s.step, settings[4] + settings[7], settings[5]);
    s.max_weights = max_weights;
    nk::parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int) {
        Tile tile;
        tile.load(s, origins + begin * 3, 3, directions + begin * 3, end - begin);
        const float empty = tile.skip(s, 0, end - begin, 0.f);
        float start = empty;
        for (int64_t r = begin; r < end; ++r) {
            const int64_t i = r - begin;
            if (i % SMALL_TILE == 0)
                start = tile.skip(s, i, std::min(i + SMALL_TILE, end - begin), empty);
            const float* background = backgrounds ? backgrounds + r * 3 : nullptr;
            Bytes bytes{s, records};
            nk::baked::Seen seen;
            if (start < tile.t_out[i])
                seen = March<Bytes>(s, tile, i, bytes)
                           .run(std::max(start, tile.t_in[i]), tile.t_out[i]);
            finish(bytes, seen.opacity, levels, views, directions + r * 3, background, colors + r * 3);
            depths[r] = seen.depth, opacities[r] = seen.opacity;
        }
    });
}
