// fastnerf_mlp over a batch: first the weights of all rays, then tiles of samples through the
// position network. The backward recomputes the activations of a tile.
#include "fastnerf_mlp/tile.h"

#include <memory>
#include <vector>

#include "shared/export.h"
#include "shared/parallel.h"
#include "shared/tiles.h"

namespace {

using nk::EncodedMlp;
using nk::EncodedMlpTile;
using nk::LayerGradients;
using nk::panel::LANES;

struct Networks {
    Networks(const int64_t* s, const float* params, bool backward)
        : components(static_cast<int>(s[5])),
          position({int(s[6]), int(s[0]), int(s[1]), int(s[2]), 1 + 3 * components}, params,
                   backward),
          direction({int(s[7]), int(s[3]), int(s[4]), 0, components},
                    params + position.layers.params(), backward) {}

    int components;
    EncodedMlp position, direction;
};

struct Worker {
    Worker(const EncodedMlp& net, bool backward) : tile(net) {
        if (backward) sums = std::make_unique<LayerGradients>(net.layers, EncodedMlpTile::PANELS);
    }
    EncodedMlpTile tile;
    std::unique_ptr<LayerGradients> sums;
};
using Workers = std::vector<std::unique_ptr<Worker>>;

// Takes all of values [n, 3] through the network, a tile at a time, and calls
// body(worker, first row, count, thread) for each.
template <class Body>
Workers for_each_tile(const EncodedMlp& net, bool backward, const float* values, int64_t n,
                      const Body& body) {
    Workers workers(nk::num_threads());
    nk::for_each_tile(n, EncodedMlpTile::SAMPLES, LANES, [&](int64_t first, int count, int thread) {
        auto& worker = workers[thread];
        if (!worker) worker = std::make_unique<Worker>(net, backward);
        worker->tile.forward(net, first, count, values);
        body(*worker, first, count, thread);
    });
    return workers;
}

void reduce(const EncodedMlp& net, const Workers& workers, float* d_params) {
    std::vector<const LayerGradients*> sums;
    for (const auto& worker : workers) sums.push_back(worker ? worker->sums.get() : nullptr);
    LayerGradients::reduce(net.layers, sums, d_params);
}

// All outputs of values [n, 3]: to [n][outputs].
void evaluate(const EncodedMlp& net, const float* values, int64_t n, float* to) {
    const int outputs = net.shape.outputs;
    for_each_tile(net, false, values, n, [&](Worker& worker, int64_t first, int count, int) {
        for (int s = 0; s < count; ++s)
            for (int i = 0; i < outputs; ++i)
                to[(first + s) * outputs + i] = worker.tile.outputs(s)[i * LANES];
    });
}

}  // namespace

// shape: depth, width, skip, view_depth, view_width, components, position_frequencies,
// direction_frequencies.
NK_EXPORT void nk_fastnerf_mlp_forward(const float* points, const float* directions,
                                       const int64_t* ray_indices, const float* params,
                                       const int64_t* shape, int64_t n, int64_t n_rays, float* rgb,
                                       float* sigma) {
    const Networks nets(shape, params, false);
    std::vector<float> weights(n_rays * nets.components);
    evaluate(nets.direction, directions, n_rays, weights.data());
    for_each_tile(nets.position, false, points, n,
                  [&](Worker& worker, int64_t first, int count, int) {
                      for (int s = 0; s < count; ++s) {
                          const float* out = worker.tile.outputs(s);
                          const float* weight =
                              weights.data() + ray_indices[first + s] * nets.components;
                          float color[3] = {0.f, 0.f, 0.f};
                          for (int d = 0; d < nets.components; ++d)
                              for (int c = 0; c < 3; ++c)
                                  color[c] += weight[d] * out[(1 + 3 * d + c) * LANES];
                          sigma[first + s] = out[0];
                          for (int c = 0; c < 3; ++c) rgb[3 * (first + s) + c] = color[c];
                      }
                  });
}

// outputs [n][1 + 3 components]: sigma, then the colours.
NK_EXPORT void nk_fastnerf_mlp_components(const float* points, const float* params,
                                          const int64_t* shape, int64_t n, float* outputs) {
    evaluate(Networks(shape, params, false).position, points, n, outputs);
}

// weights [n][components].
NK_EXPORT void nk_fastnerf_mlp_weights(const float* directions, const float* params,
                                       const int64_t* shape, int64_t n, float* weights) {
    evaluate(Networks(shape, params, false).direction, directions, n, weights);
}

// d_params must hold zeros.
NK_EXPORT void nk_fastnerf_mlp_backward(const float* points, const float* directions,
                                        const int64_t* ray_indices, const float* params,
                                        const int64_t* shape, int64_t n, int64_t n_rays,
                                        const float* d_rgb, const float* d_sigma,
                                        float* d_params) {
    const Networks nets(shape, params, true);
    const int components = nets.components;
    std::vector<float> weights(n_rays * nets.components);
    evaluate(nets.direction, directions, n_rays, weights.data());
    // Rays end anywhere in a tile: each thread has its own gradients of all weights.
    std::vector<std::vector<float>> d_weights(nk::num_threads());
    reduce(nets.position, for_each_tile(
               nets.position, true, points, n,
               [&](Worker& worker, int64_t first, int count, int thread) {
                   d_weights[thread].resize(n_rays * components);
                   for (int s = 0; s < count; ++s) {
                       const float *out = worker.tile.outputs(s), *g = d_rgb + 3 * (first + s);
                       const int64_t ray = ray_indices[first + s] * components;
                       float* to = EncodedMlpTile::gradients(*worker.sums, s);
                       to[0] = d_sigma[first + s];
                       for (int d = 0; d < components; ++d)
                           for (int c = 0; c < 3; ++c) {
                               const int at = (1 + 3 * d + c) * LANES;
                               to[at] = weights[ray + d] * g[c];
                               d_weights[thread][ray + d] += out[at] * g[c];
                           }
                   }
                   worker.tile.backward(nets.position, count, *worker.sums);
               }),
           d_params);
    reduce(nets.direction, for_each_tile(nets.direction, true, directions, n_rays,
                         [&](Worker& worker, int64_t first, int count, int) {
                             for (int s = 0; s < count; ++s)
                                 for (int d = 0; d < components; ++d) {
                                     float sum = 0.f;
                                     for (const auto& part : d_weights)
                                         if (!part.empty())
                                             sum += part[(first + s) * components + d];
                                     EncodedMlpTile::gradients(*worker.sums, s)[d * LANES] = sum;
                                 }
                             worker.tile.backward(nets.direction, count, *worker.sums);
                         }),
           d_params + nets.position.layers.params());
}
