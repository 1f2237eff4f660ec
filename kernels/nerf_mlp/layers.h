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
#include "shared/buffer.h"

namespace nk {

// Floats on a cache line's boundary: a vector that straddles two costs twice.
class AlignedFloats {
  public:
    explicit AlignedFloats(int64_t n) {
        float* start = buffer_.resize(static_cast<size_t>(n) + 15);
        data_ = start + (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64 / sizeof(float);
    }
    float* data() { return data_; }
    const float* data() const { return data_; }

  private:
    Buffer<float> buffer_;
    float* data_;
};

struct Rows {
    int buffer, first, count;
};

struct Layer {
    Rows in, out;
    bool relu;
    Rows back;       // rows of `in` that the layer before wrote: the gradient goes on there
    bool back_relu;  // whether that layer has a ReLU

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
    // The next layer of the chain; it must read what the one before it wrote, or part of that.
    void add(Rows in, Rows out, bool relu) {
        Rows back{in.buffer, in.first, 0};
        bool back_relu = false;
        if (!all.empty() && all.back().out.buffer == in.buffer) {
            const Rows& previous = all.back().out;
            const int end = in.first + in.count, previous_end = previous.first + previous.count;
            back.first = in.first > previous.first ? in.first : previous.first;
            back.count = (end < previous_end ? end : previous_end) - back.first;
            back_relu = all.back().relu;
        }
        all.push_back({in, out, relu, back, back_relu});
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
};

// The parameters, packed for the products once and read by all threads.
class PackedLayers {
  public:
    PackedLayers(const Layers& layers, const float* params, bool backward)
        : params(params), forward_(layers.params()), backward_(backward ? layers.params() : 0) {
        float *ahead = forward_.data(), *back = backward_.data();
        for (const Layer& layer : layers.all) {
            const int in = layer.in.count, out = layer.out.count;
            panel::pack(params, in, 1, out, in, ahead);
            if (backward)
                panel::pack(params + layer.back.first - layer.in.first, 1, in, layer.back.count,
                            out, back);
            params += layer.params(), ahead += layer.weights(), back += layer.weights();
        }
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

// All layers on the first `panels` panels, whose inputs are in place.
inline void layers_forward(const Layers& layers, const PackedLayers& packed, int panels,
                           TileBuffers& x) {
    const float *params = packed.params, *weights = packed.forward();
    for (const Layer& layer : layers.all) {
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

    // x is what layers_forward left. The caller has put the gradients of the network's outputs into
    // their places in `tile` (none there has a ReLU); samples that are padding have zeros.
    void backward(const PackedLayers& packed, int panels, TileBuffers& x) {
        const float* weights = packed.backward() + packed_weights();
        float* sums = sums_.data() + layers_.grads();
        for (size_t l = layers_.all.size(); l-- > 0;) {
            const Layer& layer = layers_.all[l];
            const float* g = tile.at(layer.out);
            const int64_t g_stride = tile.stride(layer.out.buffer);
            const int64_t x_stride = x.stride(layer.in.buffer);
            weights -= layer.weights(), sums -= layer.grads();
            panel::weight_gradient(g, g_stride, layer.out.count, x.at(layer.in), x_stride,
                                   layer.in.count, panels, scratch_.data(), sums);
            add_bias_gradient(g, g_stride, layer.out.count, panels,
                              sums + layer.grads() - int64_t(layer.out.count) * VL);
            const auto run = layer.back_relu ? panel::product<kMask> : panel::product<kStore>;
            run(weights, layer.back.count, layer.out.count, g, g_stride, tile.at(layer.back),
                tile.stride(layer.back.buffer), panels, x.at(layer.back), x_stride);
        }
    }

    // params += the sums.
    void reduce(float* params) const {
        const float* sums = sums_.data();
        for (const Layer& layer : layers_.all) {
            const int in = layer.in.count, out = layer.out.count;
            for (int i = 0; i < in; ++i) {
                const float* column =
                    sums + int64_t(i / panel::LANES) * out * panel::LANES + i % panel::LANES;
                for (int o = 0; o < out; ++o)
                    params[int64_t(o) * in + i] += column[o * panel::LANES];
            }
            const float* bias = sums + layer.grads() - int64_t(out) * VL;
            for (int o = 0; o < out; ++o) params[layer.weights() + o] += hsum(load(bias + o * VL));
            params += layer.params(), sums += layer.grads();
        }
    }

    TileBuffers tile;

  private:
    int64_t packed_weights() const {
        int64_t n = 0;
        for (const Layer& layer : layers_.all) n += layer.weights();
        return n;
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
