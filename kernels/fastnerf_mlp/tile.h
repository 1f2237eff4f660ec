// A network from the encoding of a point or direction to some outputs, on a tile of samples:
// forward that keeps the activations, and backward from them. FastNeRF has two of these.
#pragma once
#include "nerf_mlp/encode.h"
#include "nerf_mlp/layers.h"

namespace nk {

struct EncodedMlpShape {
    int frequencies, depth, width;
    int skip;  // the layer, from 1, that gets the encoding again; 0 for none
    int outputs;
};

struct EncodedMlp {
    EncodedMlp(const EncodedMlpShape& shape, const float* params, bool backward)
        : shape(shape), layers(wire(shape)), packed(layers, params, backward) {}

    // Buffers: [encoding, input of `skip`], [outputs], then one a layer.
    static constexpr int ENCODING = 0, OUTPUTS = 1;

    static Layers wire(const EncodedMlpShape& s) {
        Layers layers;
        const int encoded = encoded_rows(s.frequencies);
        layers.add_buffer(encoded + (s.skip ? s.width : 0));
        layers.add_buffer(s.outputs);
        Rows in{ENCODING, 0, encoded};
        for (int l = 1; l <= s.depth; ++l) {
            const bool skips = l == s.skip;
            const Rows out = skips ? Rows{ENCODING, encoded, s.width}
                                   : Rows{layers.add_buffer(s.width), 0, s.width};
            layers.add(in, out, true);
            in = skips ? Rows{ENCODING, 0, encoded + s.width} : out;
        }
        layers.add(in, {OUTPUTS, 0, s.outputs}, false);
        return layers;
    }

    EncodedMlpShape shape;
    Layers layers;
    PackedLayers packed;
};

class EncodedMlpTile {
  public:
    static constexpr int SAMPLES = 256;
    static constexpr int PANELS = SAMPLES / panel::LANES;

    explicit EncodedMlpTile(const EncodedMlp& net) : x_(net.layers, PANELS) {}

    // The outputs of rows [first, first + count) of values [*, 3]. Padding repeats the last one.
    void forward(const EncodedMlp& net, int64_t first, int count, const float* values) {
        panels_ = static_cast<int>(panel::count(count));
        for (int p = 0; p < panels_; ++p)
            for (int v = 0; v < panel::LANES; v += VL) {
                int64_t rows[VL];
                for (int lane = 0; lane < VL; ++lane) {
                    const int at = p * panel::LANES + v + lane;
                    rows[lane] = first + (at < count ? at : count - 1);
                }
                encode_rows(values, rows, net.shape.frequencies,
                            x_.at(EncodedMlp::ENCODING, 0, p) + v);
            }
        layers_forward(net.layers, net.packed, panels_, x_);
    }

    // Output 0 of a sample; output i is i * panel::LANES behind.
    const float* outputs(int sample) { return place(x_, sample); }
    // The same of the outputs' gradients, which the caller sets before `backward`.
    static float* gradients(LayerGradients& sums, int sample) { return place(sums.tile, sample); }

    // Adds the parameters' gradients to `sums`. Clears the gradients of the padding itself.
    void backward(const EncodedMlp& net, int count, LayerGradients& sums) {
        for (int s = count; s < panels_ * panel::LANES; ++s)
            for (int i = 0; i < net.shape.outputs; ++i) gradients(sums, s)[i * panel::LANES] = 0.f;
        sums.backward(net.packed, panels_, x_);
    }

  private:
    static float* place(TileBuffers& buffers, int sample) {
        return buffers.at(EncodedMlp::OUTPUTS, 0, sample / panel::LANES) + sample % panel::LANES;
    }

    TileBuffers x_;
    int panels_ = 0;
};

}  // namespace nk
