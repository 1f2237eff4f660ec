// nerf_mlp over a batch: every thread takes tiles of samples through all layers. The backward
// recomputes the activations of a tile.
#include <memory>
#include <vector>

#include "nerf_mlp/tile.h"
#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/tiles.h"

namespace {

using nk::LayerGradients;
using nk::NerfMlp;
using nk::NerfMlpTile;

nk::NerfMlpShape read_shape(const int64_t* numbers) {
    int value[6];
    for (int i = 0; i < 6; ++i) value[i] = static_cast<int>(numbers[i]);
    return {value[0], value[1], value[2], value[3], value[4], value[5]};
}

}  // namespace

// shape: depth, width, view_width, skip, position_frequencies, direction_frequencies.
NK_EXPORT void nk_nerf_mlp_forward(const float* points, const float* directions,
                                   const int64_t* ray_indices, const float* params,
                                   const int64_t* shape, int64_t n, float* rgb, float* sigma) {
    const NerfMlp net(read_shape(shape), params, false);
    std::vector<std::unique_ptr<NerfMlpTile>> tiles(nk::num_threads());
    nk::for_each_tile(n, NerfMlpTile::SAMPLES, nk::panel::LANES, [&](int64_t first, int count, int thread) {
        auto& tile = tiles[thread];
        if (!tile) tile = std::make_unique<NerfMlpTile>(net);
        tile->encode(net, first, count, points, directions, ray_indices);
        tile->forward(net);
        tile->read(count, rgb + 3 * first, sigma + first);
    });
}

// d_params must hold zeros.
NK_EXPORT void nk_nerf_mlp_backward(const float* points, const float* directions,
                                    const int64_t* ray_indices, const float* params,
                                    const int64_t* shape, int64_t n, const float* d_rgb,
                                    const float* d_sigma, float* d_params) {
    struct Worker {
        explicit Worker(const NerfMlp& net) : tile(net), sums(net.layers, NerfMlpTile::PANELS) {}
        NerfMlpTile tile;
        LayerGradients sums;
    };
    const NerfMlp net(read_shape(shape), params, true);
    std::vector<std::unique_ptr<Worker>> workers(nk::num_threads());
    nk::for_each_tile(n, NerfMlpTile::SAMPLES, nk::panel::LANES, [&](int64_t first, int count, int thread) {
        auto& worker = workers[thread];
        if (!worker) worker = std::make_unique<Worker>(net);
        worker->tile.encode(net, first, count, points, directions, ray_indices);
        worker->tile.forward(net);
        worker->tile.backward(net, count, d_rgb + 3 * first, d_sigma + first, worker->sums);
    });
    std::vector<const LayerGradients*> sums;
    for (const auto& worker : workers) sums.push_back(worker ? &worker->sums : nullptr);
    LayerGradients::reduce(net.layers, sums, d_params);
}
