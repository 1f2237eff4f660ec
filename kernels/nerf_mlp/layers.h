// Fully connected layers on a tile of samples, forward and backward, wired by rows of buffers.
//
// A tile has buffers [panel][rows][LANES] (see panel_gemm.h). A layer reads some consecutive rows
// of one buffer and writes some of another: inputs that a later layer gets beside the output of an
// earlier one (a skip, a view direction) lie in the same buffer, and nothing is concatenated.
//
// Parameters, flat: per layer W [out][in], then b [out].
#pragma once
#include <cstdint>
#include <vector>

#include "nerf_mlp/panel_gemm.h"
#include "shared/aligned_floats.h"
#include "shared/parallel.h"

namespace nk {

struct Rows {
    int buffer, first, count;
};

constexpr int kNone = -1;

struct Layer {
    Rows in, out;
    bool relu;
    Rows back;       // rows of `in` that another layer wrote: the gradient goes on there
    bool back_relu;  // whether that layer has a ReLU
    int joins;       // the next layer that reads those rows too, or kNone

    int64_t weights() const { return int64_t(in.count) * out.count; }
    int64_t params() const { return weights() + out.count; }
    int64_t grads() const {
        return panel::count(in.count) * panel::LANES * out.count + int64_t(out.count) * VL;
    }
};

class Layers {
  public:
    int add_buffer(int rows) {
        buffer_rows.push_back(rows);
        return static_cast<int>(buffer_rows.size()) - 1;
    }
    // Inputs whose gradient is wanted; `LayerGradients::backward` leaves it in their place.
    void want(Rows rows) { sources_.push_back({rows, false}); }
    // The next layer. It reads rows of one layer before it, or wanted inputs, or neither. Layers
    // that read the same layer must all read the same of its rows.
    void add(Rows in, Rows out, bool relu) {
        Layer layer{in, out, relu, {in.buffer, in.first, 0}, false, kNone};
        for (const Source& source : sources_) {
            const int first = in.first > source.rows.first ? in.first : source.rows.first;
            const int in_end = in.first + in.count;
            const int source_end = source.rows.first + source.rows.count;
            const int end = in_end < source_end ? in_end : source_end;
            if (source.rows.buffer != in.buffer || end <= first) continue;
            layer.back = {in.buffer, first, end - first};
            layer.back_relu = source.relu;
        }
        for (Layer& other : all)
            if (layer.back.count && other.back.count && other.joins == kNone &&
                other.back.buffer == layer.back.buffer && other.back.first == layer.back.first)
                other.joins = static_cast<int>(all.size());
        all.push_back(layer);
        sources_.push_back({out, relu});
    }
    int64_t params() const {
        int64_t n = 0;
        for (const Layer& layer : all) n += layer.params();
        return n;
    }
    int64_t grads() const {
        int64_t n = 0;
        for (const Layer& layer : all) n += layer.grads();
        return n;
    }
    int64_t rows() const {
        int64_t n = 0;
        for (const int rows : buffer_rows) n += rows;
        return n;
    }

    std::vector<Layer> all;
    std::vector<int> buffer_rows;

  private:
    struct Source {
        Rows rows;
        bool relu;
    };
    std::vector<Source> sources_;
};

constexpr int kAllLayers = 1 << 30;

// The parameters of the first `count` layers, packed for the products once and read by all threads.
class PackedLayers {
  public:
    PackedLayers(const Layers& layers, const float* params, bool backward, int count = kAllLayers)
        : params(params), forward_(layers.params()), backward_(backward ? layers.params() : 0) {
        // Offsets first: the layers are packed side by side.
        std::vector<int64_t> from, to;
        int64_t read = 0, written = 0;
        for (const Layer& layer : layers.all) {
            if (count-- == 0) break;
            from.push_back(read), to.push_back(written);
            read += layer.params(), written += layer.weights();
        }
        parallel_for(static_cast<int64_t>(from.size()), 1, [&](int64_t l, int64_t, int) {
            const Layer& layer = layers.all[l];
            const int in = layer.in.count, out = layer.out.count;
            const float* weights = params + from[l];
            panel::pack(weights, in, 1, out, in, forward_.data() + to[l]);
            if (backward)
                panel::pack(weights + layer.back.first - layer.in.first, 1, in, layer.back.count,
                            out, backward_.data() + to[l]);
        });
    }
    const float* forward() const { return forward_.data(); }
    const float* backward() const { return backward_.data(); }

    const float* params;

  private:
    AlignedFloats forward_, backward_;
};

// The buffers of a tile of up to `panels` panels: activations, or gradients of the same places.
class TileBuffers {
  public:
    TileBuffers(const Layers& layers, int panels)
        : rows_(layers.buffer_rows), memory_(layers.rows() * panels * panel::LANES) {
        int64_t start = 0;
        for (const int rows : rows_) {
            starts_.push_back(start);
            start += int64_t(rows) * panels * panel::LANES;
        }
    }
    float* at(int buffer, int row, int panel = 0) {
        return memory_.data() + starts_[buffer] + panel * stride(buffer) + row * panel::LANES;
    }
    float* at(const Rows& rows) { return at(rows.buffer, rows.first); }
    int64_t stride(int buffer) const { return int64_t(rows_[buffer]) * panel::LANES; }

  private:
    std::vector<int> rows_;
    std::vector<int64_t> starts_;
    AlignedFloats memory_;
};

// The first `count` layers on the first `panels` panels, whose inputs are in place.
inline void layers_forward(const Layers& layers, const PackedLayers& packed, int panels,
                           TileBuffers& x, int count = kAllLayers) {
    const float *params = packed.params, *weights = packed.forward();
    for (const Layer& layer : layers.all) {
        if (count-- == 0) break;
        const auto run = layer.relu ? panel::product<kBias | kRelu> : panel::product<kBias>;
        run(weights, layer.out.count, layer.in.count, x.at(layer.in), x.stride(layer.in.buffer),
            x.at(layer.out), x.stride(layer.out.buffer), panels, params + layer.weights(), 0);
        params += layer.params(), weights += layer.weights();
    }
}

// A thread's sums of parameter gradients, and what it needs to add a tile's to them.
class LayerGradients {
  public:
    LayerGradients(const Layers& layers, int panels)
        : tile(layers, panels),
          layers_(layers),
          scratch_(int64_t(panels) * panel::LANES * panel::LANES),
          sums_(layers.grads()) {
        std::memset(sums_.data(), 0, sizeof(float) * layers.grads());
    }

    // x is what layers_forward left of the first `count` layers. The caller has put the gradients
    // of their outputs into their places in `tile` (none there has a ReLU); samples that are
    // padding have zeros.
    void backward(const PackedLayers& packed, int panels, TileBuffers& x, int count = kAllLayers) {
        const int n = static_cast<int>(layers_.all.size()) < count
                          ? static_cast<int>(layers_.all.size())
                          : count;
        const float* weights = packed.backward();
        float* sums = sums_.data();
        for (int l = 0; l < n; ++l)
            weights += layers_.all[l].weights(), sums += layers_.all[l].grads();
        for (int l = n; l-- > 0;) {
            const Layer& layer = layers_.all[l];
            const float* g = tile.at(layer.out);
            const int64_t g_stride = tile.stride(layer.out.buffer);
            const int64_t x_stride = x.stride(layer.in.buffer);
            weights -= layer.weights(), sums -= layer.grads();
            panel::weight_gradient(g, g_stride, layer.out.count, x.at(layer.in), x_stride,
                                   layer.in.count, panels, scratch_.data(), sums);
            add_bias_gradient(g, g_stride, layer.out.count, panels,
                              sums + layer.grads() - int64_t(layer.out.count) * VL);
            const bool joins = layer.joins != kNone && layer.joins < n;
            const auto run = layer.back_relu
                                 ? joins ? panel::product<kMask | kAccumulate>
                                         : panel::product<kMask>
                             : joins ? panel::product<kAccumulate>
                                     : panel::product<kStore>;
            run(weights, layer.back.count, layer.out.count, g, g_stride, tile.at(layer.back),
                tile.stride(layer.back.buffer), panels, x.at(layer.back), x_stride);
        }
    }

    // params += the sums of all threads; those without any are NULL.
    static void reduce(const Layers& layers, const std::vector<const LayerGradients*>& threads,
                       float* params) {
        std::vector<int64_t> to, from;
        int64_t written = 0, read = 0;
        for (const Layer& layer : layers.all) {
            to.push_back(written), from.push_back(read);
            written += layer.params(), read += layer.grads();
        }
        parallel_for(static_cast<int64_t>(to.size()), 1, [&](int64_t l, int64_t, int) {
            for (const LayerGradients* thread : threads)
                if (thread) add(layers.all[l], thread->sums_.data() + from[l], params + to[l]);
        });
    }

    TileBuffers tile;

  private:
    static void add(const Layer& layer, const float* sums, float* params) {
        const int in = layer.in.count, out = layer.out.count;
        for (int first = 0; first < in; first += panel::LANES) {
            const int lanes = in - first < panel::LANES ? in - first : panel::LANES;
            const float* column = sums + int64_t(first) * out;
            for (int o = 0; o < out; ++o)
                for (int lane = 0; lane < lanes; ++lane)
                    params[int64_t(o) * in + first + lane] += column[o * panel::LANES + lane];
        }
        const float* bias = sums + layer.grads() - int64_t(out) * VL;
        for (int o = 0; o < out; ++o) params[layer.weights() + o] += hsum(load(bias + o * VL));
    }

    static void add_bias_gradient(const float* g, int64_t stride, int out, int panels, float* db) {
        for (int p = 0; p < panels; ++p, g += stride)
            for (int o = 0; o < out; ++o) {
                const float* row = g + o * panel::LANES;
                store(db + o * VL, load(db + o * VL) + load(row) + load(row + VL));
            }
    }

    const Layers& layers_;
    AlignedFloats scratch_, sums_;
};

}  // namespace nk
