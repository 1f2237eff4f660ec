// fused_mlp over a batch: every thread takes tiles of samples through all layers, so activations
// never leave its cache. The backward recomputes the activations of a tile.
#include <cstdlib>
#include <memory>
#include <vector>

#include "fused_mlp/mlp_tile.h"
#include "shared/export.h"
#include "shared/parallel.h"

namespace nk {
namespace {

constexpr int TILE = 64;                      // samples
constexpr int64_t STRIDE = tile_stride(TILE);  // floats between rows of a tile

// Cache-line aligned floats, zeroed.
class Buffer {
  public:
    explicit Buffer(int64_t n) : storage_(n + 15) {
        const auto address = reinterpret_cast<uintptr_t>(storage_.data());
        data_ = storage_.data() + (64 - address % 64) % 64 / sizeof(float);
    }
    float* data() { return data_; }

  private:
    std::vector<float> storage_;
    float* data_;
};

MlpShape make_shape(const int64_t* widths, int64_t layers, int64_t sigmoid_output) {
    MlpShape shape;
    shape.layers = static_cast<int>(layers);
    for (int l = 0; l <= layers; ++l) shape.width[l] = static_cast<int>(widths[l]);
    shape.sigmoid_output = sigmoid_output != 0;
    return shape;
}

// What a thread needs for one tile.
struct Workspace {
    explicit Workspace(const MlpShape& shape)
        : x(shape.in(0) * STRIDE),
          hidden(shape.hidden_floats(STRIDE)),
          out(shape.width[shape.layers] * STRIDE),
          samples(TILE * tile_stride(shape.max_width())) {}
    Buffer x, hidden, out, samples;
};

struct BackwardWorkspace : Workspace {
    explicit BackwardWorkspace(const MlpShape& shape)
        : Workspace(shape),
          d_out(shape.width[shape.layers] * STRIDE),
          dx(shape.in(0) * STRIDE),
          scratch(shape.backward_floats(TILE, STRIDE)),
          grads(shape.grads()) {}
    Buffer d_out, dx, scratch, grads;
};

// A tile [width][STRIDE] from `count` rows of a [N, width] matrix, zeros up to TILE samples.
void load_tile(const float* rows, int count, int width, float* tile) {
    transpose(rows, width, count, width, tile, STRIDE);
    for (int s = static_cast<int>(pad_lanes(count)); s < TILE; s += VL)
        for (int i = 0; i < width; ++i) store(tile + i * STRIDE + s, vf{});
}

void store_tile(const float* tile, int count, int width, float* samples, float* rows) {
    if (width < VL) {
        for (int s = 0; s < count; ++s)
            for (int i = 0; i < width; ++i) rows[s * width + i] = tile[i * STRIDE + s];
        return;
    }
    const int64_t ld = tile_stride(width);
    transpose(tile, STRIDE, width, static_cast<int>(pad_lanes(count)), samples, ld);
    for (int s = 0; s < count; ++s)
        std::memcpy(rows + int64_t(s) * width, samples + s * ld, sizeof(float) * width);
}

// Calls body(first sample, count, workspace) for every tile, with one workspace a thread.
template <class Space, class Body>
std::vector<std::unique_ptr<Space>> for_each_tile(const MlpShape& shape, int64_t n,
                                                  const Body& body) {
    std::vector<std::unique_ptr<Space>> spaces(num_threads());
    parallel_for((n + TILE - 1) / TILE, 4, [&](int64_t begin, int64_t end, int thread) {
        if (!spaces[thread]) spaces[thread] = std::make_unique<Space>(shape);
        for (int64_t tile = begin; tile < end; ++tile) {
            const int64_t first = tile * TILE;
            body(first, static_cast<int>(n - first < TILE ? n - first : TILE), *spaces[thread]);
        }
    });
    return spaces;
}

}  // namespace
}  // namespace nk

NK_EXPORT void nk_fused_mlp_forward(const float* x, const float* params, const int64_t* widths,
                                    int64_t layers, int64_t sigmoid_output, int64_t n,
                                    float* out) {
    using nk::STRIDE;
    const nk::MlpShape shape = nk::make_shape(widths, layers, sigmoid_output);
    const int in = shape.in(0), width = shape.width[layers];
    nk::for_each_tile<nk::Workspace>(shape, n, [&](int64_t first, int count, nk::Workspace& w) {
        nk::load_tile(x + first * in, count, in, w.x.data());
        nk::mlp_forward_tile(shape, params, w.x.data(), nk::TILE, STRIDE, w.hidden.data(),
                             w.out.data());
        nk::store_tile(w.out.data(), count, width, w.samples.data(), out + first * width);
    });
}

// dx and d_params may be NULL; d_params must hold zeros.
NK_EXPORT void nk_fused_mlp_backward(const float* x, const float* params, const int64_t* widths,
                                     int64_t layers, int64_t sigmoid_output, int64_t n,
                                     const float* d_out, float* dx, float* d_params) {
    using nk::STRIDE;
    const nk::MlpShape shape = nk::make_shape(widths, layers, sigmoid_output);
    const int in = shape.in(0), width = shape.width[layers];
    const auto spaces = nk::for_each_tile<nk::BackwardWorkspace>(
        shape, n, [&](int64_t first, int count, nk::BackwardWorkspace& w) {
            nk::load_tile(x + first * in, count, in, w.x.data());
            nk::load_tile(d_out + first * width, count, width, w.d_out.data());
            nk::mlp_forward_tile(shape, params, w.x.data(), nk::TILE, STRIDE, w.hidden.data(),
                                 w.out.data());
            nk::mlp_backward_tile(shape, params, w.x.data(), w.hidden.data(), w.out.data(),
                                  w.d_out.data(), nk::TILE, STRIDE, w.scratch.data(),
                                  dx ? w.dx.data() : nullptr,
                                  d_params ? w.grads.data() : nullptr);
            if (dx) nk::store_tile(w.dx.data(), count, in, w.samples.data(), dx + first * in);
        });
    if (d_params)
        for (const auto& space : spaces)
            if (space) nk::reduce_mlp_gradient(shape, space->grads.data(), d_params);
}
