// Volume rendering of packed samples. A block of rays goes through three sweeps: optical depths ray
// by ray (a running sum), exponentials over the whole block at once (short rays would leave vector
// lanes idle), then the sums of each ray. The formulas are derived in README.md.
#include <algorithm>
#include <vector>

#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/simd.h"

namespace {

using nk::vf;
using nk::VL;

constexpr int64_t kRaysPerTask = 256;
constexpr int64_t kBlockSamples = 2048;  // three floats each: stays in the first-level cache

// 1 - exp(-x) for x >= 0. Near zero by a series: the difference would lose all its digits there.
inline vf opacity_of(vf x) {
    vf p = nk::splat(1.f / 5040.f);
    p = p * x - 1.f / 720.f;
    p = p * x + 1.f / 120.f;
    p = p * x - 1.f / 24.f;
    p = p * x + 1.f / 6.f;
    p = p * x - 0.5f;
    p = p * x + 1.f;
    return nk::select(x < 0.25f, p * x, 1.f - nk::exp(-x));
}

struct Samples {
    const float *sigmas, *t_starts, *t_ends;
    const int64_t* packed_info;
    float limit;  // optical depth at which rays stop

    int64_t start(int64_t ray) const { return packed_info[2 * ray]; }
    int64_t count(int64_t ray) const { return packed_info[2 * ray + 1]; }
};

// Optical thickness of each sample of rays [first, last) and depth before it, one ray after another
// without gaps; the samples behind the early stop are left out.
struct Block {
    std::vector<float> thickness, before;
    int64_t offset[kRaysPerTask + 1];

    void fill(const Samples& s, int64_t first, int64_t last, int64_t total) {
        if (static_cast<int64_t>(before.size()) < total + VL) {
            thickness.resize(total + VL);
            before.resize(total + VL);
        }
        int64_t k = 0;
        for (int64_t ray = first; ray < last; ++ray) {
            offset[ray - first] = k;
            const int64_t end = s.start(ray) + s.count(ray);
            float depth = 0.f;
            for (int64_t i = s.start(ray); i < end && depth <= s.limit; ++i, ++k) {
                thickness[k] = s.sigmas[i] * (s.t_ends[i] - s.t_starts[i]);
                before[k] = depth;
                depth += thickness[k];
            }
        }
        offset[last - first] = k;
        std::fill_n(&thickness[k], VL, 0.f);  // the last vector may reach past the end
        std::fill_n(&before[k], VL, 0.f);
    }
};

// Calls body(first, last, block) for blocks of rays of [begin, end) with about kBlockSamples each.
template <class Body>
void for_blocks(const Samples& s, int64_t begin, int64_t end, Body body) {
    Block block;
    for (int64_t first = begin, last; first < end; first = last) {
        int64_t total = s.count(first);
        for (last = first + 1; last < end && total + s.count(last) <= kBlockSamples; ++last)
            total += s.count(last);
        block.fill(s, first, last, total);
        body(first, last, block);
    }
}

bool covers_all(const Samples& s, int64_t n_rays, int64_t n_samples) {
    int64_t total = 0;
    for (int64_t ray = 0; ray < n_rays; ++ray) total += s.count(ray);
    return total == n_samples;
}

}  // namespace

NK_EXPORT void nk_composite_forward(const float* sigmas, const float* rgbs, const float* t_starts,
                                    const float* t_ends, const int64_t* packed_info,
                                    const float* background, int64_t n_rays, int64_t n_samples,
                                    float limit, float* colors, float* depths, float* opacities,
                                    float* weights, float* distortions) {
    const Samples s{sigmas, t_starts, t_ends, packed_info, limit};
    if (!covers_all(s, n_rays, n_samples)) std::fill_n(weights, n_samples, 0.f);
    auto render = [&](int64_t first, int64_t last, Block& block) {
        float* w = block.before.data();
        for (int64_t k = 0; k < block.offset[last - first]; k += VL)
            nk::store(w + k, nk::exp(-nk::load(w + k)) *
                                 opacity_of(nk::load(&block.thickness[k])));
        for (int64_t ray = first; ray < last; ++ray) {
            const int64_t start = s.start(ray);
            const int64_t kept = block.offset[ray - first + 1] - block.offset[ray - first];
            const float* wr = w + block.offset[ray - first];
            const float origin = kept ? t_starts[start] : 0.f;
            float red = 0.f, green = 0.f, blue = 0.f;
            float sum_w = 0.f, sum_wm = 0.f, spread = 0.f;  // m: midpoint from the ray's first edge
            for (int64_t j = 0; j < kept; ++j) {
                const int64_t i = start + j;
                const float delta = t_ends[i] - t_starts[i];
                const float m = (t_starts[i] - origin) + 0.5f * delta;
                red += wr[j] * rgbs[3 * i];
                green += wr[j] * rgbs[3 * i + 1];
                blue += wr[j] * rgbs[3 * i + 2];
                spread += wr[j] * (wr[j] * delta * (1.f / 3.f) + 2.f * (m * sum_w - sum_wm));
                sum_w += wr[j];
                sum_wm += wr[j] * m;
            }
            std::copy_n(wr, kept, weights + start);
            std::fill_n(weights + start + kept, s.count(ray) - kept, 0.f);
            const float* back = background ? background + 3 * ray : nullptr;
            colors[3 * ray] = red + (back ? (1.f - sum_w) * back[0] : 0.f);
            colors[3 * ray + 1] = green + (back ? (1.f - sum_w) * back[1] : 0.f);
            colors[3 * ray + 2] = blue + (back ? (1.f - sum_w) * back[2] : 0.f);
            depths[ray] = sum_wm + origin * sum_w;
            opacities[ray] = sum_w;
            distortions[ray] = spread;
        }
    };
    nk::parallel_for(n_rays, kRaysPerTask, [&](int64_t begin, int64_t end, int) {
        for_blocks(s, begin, end, render);
    });
}

// Every g_* may be NULL: an upstream gradient that is zero, or a result nobody wants.
NK_EXPORT void nk_composite_backward(const float* sigmas, const float* rgbs, const float* t_starts,
                                     const float* t_ends, const int64_t* packed_info,
                                     const float* background, const float* weights, int64_t n_rays,
                                     int64_t n_samples, float limit, const float* g_colors,
                                     const float* g_depths, const float* g_opacities,
                                     const float* g_weights, const float* g_distortions,
                                     float* g_sigmas, float* g_rgbs) {
    const Samples s{sigmas, t_starts, t_ends, packed_info, limit};
    if (!covers_all(s, n_rays, n_samples)) {
        if (g_sigmas) std::fill_n(g_sigmas, n_samples, 0.f);
        if (g_rgbs) std::fill_n(g_rgbs, 3 * n_samples, 0.f);
    }
    auto differentiate = [&](int64_t first, int64_t last, Block& block) {
        float* after = block.before.data();  // transmittance behind each sample
        for (int64_t k = 0; k < block.offset[last - first]; k += VL)
            nk::store(after + k,
                      nk::exp(-(nk::load(after + k) + nk::load(&block.thickness[k]))));
        for (int64_t ray = first; ray < last; ++ray) {
            const int64_t start = s.start(ray);
            const int64_t kept = block.offset[ray - first + 1] - block.offset[ray - first];
            const float* tr = after + block.offset[ray - first];
            const float* wr = weights + start;
            const float origin = kept ? t_starts[start] : 0.f;
            float gc[3] = {}, constant = g_opacities ? g_opacities[ray] : 0.f;
            if (g_colors) {
                for (int c = 0; c < 3; ++c) {
                    gc[c] = g_colors[3 * ray + c];
                    if (background) constant -= gc[c] * background[3 * ray + c];
                }
            }
            const float gd = g_depths ? g_depths[ray] : 0.f;
            const float gs = g_distortions ? g_distortions[ray] : 0.f;
            float sum_w = 0.f, sum_wm = 0.f;
            if (g_distortions) {
                for (int64_t j = 0; j < kept; ++j) {
                    const int64_t i = start + j;
                    sum_w += wr[j];
                    sum_wm += wr[j] * (0.5f * (t_starts[i] + t_ends[i]) - origin);
                }
            }
            // front: what lies before the sample, taken off the totals on the way back.
            float front_w = sum_w, front_wm = sum_wm, behind = 0.f;
            for (int64_t j = kept - 1; j >= 0; --j) {
                const int64_t i = start + j;
                const float w = wr[j], delta = t_ends[i] - t_starts[i];
                const float m = (t_starts[i] - origin) + 0.5f * delta;
                front_w -= w;
                front_wm -= w * m;
                const float spread =
                    w * delta * (2.f / 3.f) +
                    2.f * (m * (2.f * front_w + w - sum_w) + sum_wm - 2.f * front_wm - w * m);
                float g = constant + gd * (m + origin) + gs * spread;
                g += gc[0] * rgbs[3 * i] + gc[1] * rgbs[3 * i + 1] + gc[2] * rgbs[3 * i + 2];
                if (g_weights) g += g_weights[i];
                if (g_sigmas) g_sigmas[i] = delta * (g * tr[j] - behind);
                behind += g * w;
                if (g_rgbs)
                    for (int c = 0; c < 3; ++c) g_rgbs[3 * i + c] = w * gc[c];
            }
            const int64_t dead = s.count(ray) - kept;
            if (g_sigmas) std::fill_n(g_sigmas + start + kept, dead, 0.f);
            if (g_rgbs) std::fill_n(g_rgbs + 3 * (start + kept), 3 * dead, 0.f);
        }
    };
    nk::parallel_for(n_rays, kRaysPerTask, [&](int64_t begin, int64_t end, int) {
        for_blocks(s, begin, end, differentiate);
    });
}
