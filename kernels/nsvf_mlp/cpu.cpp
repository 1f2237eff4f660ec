// nsvf_mlp over a batch: every thread takes tiles of samples through all layers. The backward
// recomputes the activations of a tile; the gradients of the interpolated embeddings of all samples
// are handed out to the table's rows afterwards, by threads that own rows.
#include <memory>
#include <vector>

#include "nsvf_mlp/tile.h"
#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/tiles.h"

namespace {

using nk::LayerGradients;
using nk::NsvfMlp;
using nk::NsvfMlpTile;
using nk::NsvfSamples;

nk::NsvfMlpShape read_shape(const int64_t* numbers) {
    int value[7];
    for (int i = 0; i < 7; ++i) value[i] = static_cast<int>(numbers[i]);
    return {value[0], value[1], value[2], value[3], value[4], value[5], value[6]};
}

}  // namespace

// shape: the numbers of NsvfMlpConfig. rgb is not written without directions.
NK_EXPORT void nk_nsvf_mlp_forward(const float* table, const int32_t* corners,
                                   const int64_t* voxels, const float* places,
                                   const float* directions, const int64_t* ray_indices,
                                   const float* params, const int64_t* shape, int64_t n, float* rgb,
                                   float* sigma) {
    const NsvfSamples samples{table, corners, voxels, places, directions, ray_indices};
    const NsvfMlp net(read_shape(shape), params, directions != nullptr, false);
    std::vector<std::unique_ptr<NsvfMlpTile>> tiles(nk::num_threads());
    nk::for_each_tile(n, NsvfMlpTile::SAMPLES, nk::panel::LANES, [&](int64_t first, int count, int thread) {
        auto& tile = tiles[thread];
        if (!tile) tile = std::make_unique<NsvfMlpTile>(net);
        tile->encode(net, samples, first, count);
        tile->forward(net);
        tile->read(net, count, net.color ? rgb + 3 * first : nullptr, sigma + first);
    });
}

// d_table and d_params must hold zeros. d_embedding: room for [n][embedding]. Without directions
// d_rgb is not read.
NK_EXPORT void nk_nsvf_mlp_backward(const float* table, const int32_t* corners,
                                    const int64_t* voxels, const float* places,
                                    const float* directions, const int64_t* ray_indices,
                                    const float* params, const int64_t* shape, int64_t n,
                                    const float* d_rgb, const float* d_sigma, int64_t n_rows,
                                    float* d_embedding, float* d_table, float* d_params) {
    struct Worker {
        explicit Worker(const NsvfMlp& net) : tile(net), sums(net.layers, NsvfMlpTile::PANELS) {}
        NsvfMlpTile tile;
        LayerGradients sums;
    };
    const NsvfSamples samples{table, corners, voxels, places, directions, ray_indices};
    const NsvfMlp net(read_shape(shape), params, directions != nullptr, true);
    const int width = net.shape.embedding;
    std::vector<std::unique_ptr<Worker>> workers(nk::num_threads());
    nk::for_each_tile(n, NsvfMlpTile::SAMPLES, nk::panel::LANES, [&](int64_t first, int count, int thread) {
        auto& worker = workers[thread];
        if (!worker) worker = std::make_unique<Worker>(net);
        worker->tile.encode(net, samples, first, count);
        worker->tile.forward(net);
        worker->tile.backward(net, count, net.color ? d_rgb + 3 * first : nullptr, d_sigma + first,
                              worker->sums, d_embedding + first * width);
    });
    std::vector<const LayerGradients*> sums;
    for (const auto& worker : workers) sums.push_back(worker ? &worker->sums : nullptr);
    LayerGradients::reduce(net.layers, sums, d_params);

    const int64_t grain = (n_rows + nk::num_threads() - 1) / nk::num_threads();
    nk::parallel_for(n_rows, grain, [&](int64_t begin, int64_t end, int) {
        for (int64_t s = 0; s < n; ++s) {
            float weights[8];
            nk::corner_weights(places + 3 * s, weights);
            const float* g = d_embedding + s * width;
            for (int c = 0; c < 8; ++c) {
                const int64_t row = corners[8 * voxels[s] + c];
                if (row < begin || row >= end) continue;
                for (int i = 0; i < width; ++i) d_table[row * width + i] += weights[c] * g[i];
            }
        }
    });
}
