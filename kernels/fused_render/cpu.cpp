#include <algorithm>
#include <atomic>
#include <vector>

#include "fused_render/tile.h"
#include "shared/export.h"
#include "shared/parallel.h"

namespace {

using namespace nk;

constexpr int64_t TILE = 64;  // rays
constexpr float DEPTH_ERROR = 0.2f;  // relative; larger ones pull no harder

// What all entry points share: the field, where to sample, and the rays.
struct Job {
    Field field{};
    Sampling sampling{};
    RayBundle rays{};
    int64_t n_rays = 0;
};

Job make_job(const float* origins, const float* directions, const float* jitter,
             const float* backgrounds, int64_t n_rays, const int64_t* resolutions, int64_t n_levels,
             const int32_t* bricks, const uint64_t* occupancy, const float* density,
             const float* features, const int64_t* widths, int64_t n_layers, const float* mlp,
             int64_t bands, const float* settings, const float* pieces, const int64_t* first) {
    Job job;
    job.rays = {origins, directions, jitter, backgrounds, pieces, first};
    job.n_rays = n_rays;
    const int64_t finest = resolutions[n_levels - 1];
    job.field.grid = make_grid(resolutions, n_levels, bricks, finest);
    job.field.density_grid = job.field.grid.level[n_levels - 1];
    job.field.density = density;
    job.field.features = features;
    job.field.density_scale = settings[0];
    job.field.density_bias = settings[1];
    job.field.bands = static_cast<int>(bands);
    job.field.mlp.layers = static_cast<int>(n_layers);
    for (int64_t l = 0; l <= n_layers; ++l) job.field.mlp.width[l] = static_cast<int>(widths[l]);
    job.field.mlp.sigmoid_output = true;
    job.field.mlp_params = mlp;
    Sampling& s = job.sampling;
    s.occupancy = make_occupancy(occupancy, finest);
    std::copy(settings + 2, settings + 5, s.box_min);
    s.voxel = settings[5];
    s.step = settings[6];
    s.near = settings[7];
    s.far = settings[8];
    s.early_stop = settings[9];
    s.weight_min = settings[10];
    s.distortion = settings[11];
    return job;
}

// Each thread's tile keeps its memory from call to call: fresh pages are dear.
Tile& thread_tile(const Job& job) {
    static thread_local Tile tile;
    tile.prepare(job.field, job.sampling);
    return tile;
}

// One network gradient a thread, and the sample counts.
struct Workers {
    std::vector<std::vector<float>> mlp_gradients;
    std::atomic<int64_t> samples{0}, shaded{0};

    Workers(const Job& job, bool backward) {
        const int threads = num_threads();
        if (backward)
            mlp_gradients.assign(threads, std::vector<float>(job.field.mlp.grads(), 0.f));
    }
    void count(const Tile& tile) {
        samples.fetch_add(tile.samples(), std::memory_order_relaxed);
        shaded.fetch_add(tile.shaded(), std::memory_order_relaxed);
    }
    void finish(const Job& job, float* mlp_gradient, int64_t* counts) {
        for (const auto& gradient : mlp_gradients)
            reduce_mlp_gradient(job.field.mlp, gradient.data(), mlp_gradient);
        counts[0] = samples, counts[1] = shaded;
    }
};

void write(const RayResult* results, int64_t begin, int64_t end, float* colors, float* depths,
           float* opacities) {
    for (int64_t r = begin; r < end; ++r) {
        const RayResult& result = results[r - begin];
        std::copy(result.color, result.color + 3, colors + r * 3);
        depths[r] = result.depth;
        opacities[r] = result.opacity;
    }
}

}  // namespace

#define NK_SCENE                                                                                 \
    const float *origins, const float *directions, const float *jitter, const float *backgrounds, \
        int64_t n_rays, const int64_t *resolutions, int64_t n_levels, const int32_t *bricks,      \
        const uint64_t *occupancy, const float *density, const float *features,                   \
        const int64_t *widths, int64_t n_layers, const float *mlp, int64_t bands,                 \
        const float *settings, const float *pieces, const int64_t *first
#define NK_JOB                                                                                  \
    make_job(origins, directions, jitter, backgrounds, n_rays, resolutions, n_levels, bricks,    \
             occupancy, density, features, widths, n_layers, mlp, bands, settings, pieces, first)

NK_EXPORT void nk_fused_render_forward(NK_SCENE, float* colors, float* depths, float* opacities,
                                       int64_t* counts) {
    const Job job = NK_JOB;
    Workers workers(job, false);
    parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int) {
        RayResult results[TILE];
        Tile& tile = thread_tile(job);
        tile.forward(job.rays, begin, end, results);
        workers.count(tile);
        write(results, begin, end, colors, depths, opacities);
    });
    workers.finish(job, nullptr, counts);
}

// Gradients are added to; the forward pass is done again, tile by tile.
NK_EXPORT void nk_fused_render_backward(NK_SCENE, const float* grad_colors,
                                        const float* grad_depths, const float* grad_opacities,
                                        float* grad_density, float* grad_features,
                                        float* grad_mlp, uint8_t* features_touched, int64_t* counts) {
    const Job job = NK_JOB;
    Workers workers(job, true);
    FieldGradients grads{grad_density, grad_features, features_touched};
    parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int thread) {
        RayResult results[TILE];
        RayGradient upstream[TILE];
        Tile& tile = thread_tile(job);
        tile.forward(job.rays, begin, end, results);
        workers.count(tile);
        for (int64_t r = begin; r < end; ++r) {
            RayGradient& g = upstream[r - begin];
            std::copy(grad_colors + r * 3, grad_colors + r * 3 + 3, g.color);
            g.depth = grad_depths[r];
            g.opacity = grad_opacities[r];
        }
        tile.backward(job.rays, begin, upstream, grads, workers.mlp_gradients[thread].data());
    });
    workers.finish(job, grad_mlp, counts);
}

// Forward and backward in one pass of the loss
// scale * sum_r (|color_r - target_r|^2 + distortion spread_r + depth_weight h(depth_r / depths_r - 1))
// where h is Huber's, h(x) = x^2 up to |x| = DEPTH_ERROR, and rays with depths_r = 0 have no last term.
NK_EXPORT void nk_fused_render_fit(NK_SCENE, const float* targets, const float* depth_targets,
                                   float depth_weight, float scale, float* grad_density,
                                   float* grad_features, float* grad_mlp,
                                   float* grad_rays, uint8_t* features_touched,
                                   float* max_weight, float* colors, float* squared_errors,
                                   int64_t* counts) {
    const Job job = NK_JOB;
    Workers workers(job, true);
    FieldGradients grads{grad_density, grad_features, features_touched};
    parallel_for(n_rays, TILE, [&](int64_t begin, int64_t end, int thread) {
        RayResult results[TILE];
        RayGradient upstream[TILE];
        Tile& tile = thread_tile(job);
        tile.forward(job.rays, begin, end, results);
        workers.count(tile);
        for (int64_t r = begin; r < end; ++r) {
            RayGradient& g = upstream[r - begin];
            float squared = 0.f;
            for (int c = 0; c < 3; ++c) {
                colors[r * 3 + c] = results[r - begin].color[c];
                const float error = colors[r * 3 + c] - targets[r * 3 + c];
                g.color[c] = 2.f * scale * error;
                squared += error * error;
            }
            squared_errors[r] = squared;
            g.depth = g.opacity = 0.f;
            if (depth_targets && depth_targets[r] > 0.f) {
                const float error = results[r - begin].depth / depth_targets[r] - 1.f;
                const float bounded = std::min(std::max(error, -DEPTH_ERROR), DEPTH_ERROR);
                g.depth = 2.f * scale * depth_weight * bounded / depth_targets[r];
            }
        }
        tile.backward(job.rays, begin, upstream, grads, workers.mlp_gradients[thread].data(),
                      scale * job.sampling.distortion, grad_rays);
        if (max_weight) tile.record_weights(max_weight);
    });
    workers.finish(job, grad_mlp, counts);
}
