// The network of NeRF on a tile of samples: forward that keeps the activations, and backward from
// them. For kernels that do more with a tile than pass it on (march, composite, loss).
//
//     NerfMlp net(shape, params, true);            // once, for all threads
//     NerfMlpTile tile(net); LayerGradients sums(net.layers, tile.panels());   // a thread
//     tile.encode(first, count, points, directions, ray_indices);
//     tile.forward(net);  ... tile.read(count, rgb, sigma) ...
//     tile.backward(net, count, d_rgb, d_sigma, sums);  ... at the end sums.reduce(d_params)
//
// More samples than a tile holds (whole rays): several tiles, one `sums`.
#pragma once
#include "nerf_mlp/encode.h"
#include "nerf_mlp/layers.h"

namespace nk {

struct NerfMlpShape {
    int depth, width, view_width, skip;  // skip: the layer, from 0, that gets the position again
    int position_frequencies, direction_frequencies;

    int position_rows() const { return encoded_rows(position_frequencies); }
    int direction_rows() const { return encoded_rows(direction_frequencies); }
};

struct NerfMlp {
    NerfMlp(const NerfMlpShape& shape, const float* params, bool backward)
        : shape(shape), layers(wire(shape)), packed(layers, params, backward) {}

    // Buffers: [position, input of `skip`], [sigma, feature, direction], [rgb], then one a layer.
    static constexpr int POSITION = 0, HEAD = 1, RGB = 2;

    static Layers wire(const NerfMlpShape& s) {
        Layers layers;
        const int position = s.position_rows(), direction = s.direction_rows();
        layers.add_buffer(position + s.width);
        layers.add_buffer(1 + s.width + direction);
        layers.add_buffer(3);
        Rows in{POSITION, 0, position};
        for (int l = 0; l < s.depth; ++l) {
            const bool skips = l + 1 == s.skip;
            const Rows out = skips ? Rows{POSITION, position, s.width}
                                   : Rows{layers.add_buffer(s.width), 0, s.width};
            layers.add(in, out, true);
            in = skips ? Rows{POSITION, 0, position + s.width} : out;
        }
        layers.add(in, {HEAD, 0, 1 + s.width}, false);
        const Rows view{layers.add_buffer(s.view_width), 0, s.view_width};
        layers.add({HEAD, 1, s.width + direction}, view, true);
        layers.add(view, {RGB, 0, 3}, false);
        return layers;
    }

    NerfMlpShape shape;
    Layers layers;
    PackedLayers packed;
};

class NerfMlpTile {
  public:
    static constexpr int SAMPLES = 128;
    static constexpr int PANELS = SAMPLES / panel::LANES;

    explicit NerfMlpTile(const NerfMlp& net) : x_(net.layers, PANELS) {}

    // Samples [first, first + count) of points [N, 3]; their directions are rows of `directions`,
    // by ray_indices [N] or, if NULL, one a sample. Padding repeats the last sample.
    void encode(const NerfMlp& net, int64_t first, int count, const float* points,
                const float* directions, const int64_t* ray_indices) {
        panels_ = static_cast<int>(panel::count(count));
        for (int p = 0; p < panels_; ++p)
            for (int v = 0; v < panel::LANES; v += VL) {
                int64_t sample[VL], ray[VL];
                for (int lane = 0; lane < VL; ++lane) {
                    const int at = p * panel::LANES + v + lane;
                    sample[lane] = first + (at < count ? at : count - 1);
                    ray[lane] = ray_indices ? ray_indices[sample[lane]] : sample[lane];
                }
                encode_rows(points, sample, net.shape.position_frequencies,
                            x_.at(NerfMlp::POSITION, 0, p) + v);
                encode_rows(directions, ray, net.shape.direction_frequencies,
                            x_.at(NerfMlp::HEAD, 1 + net.shape.width, p) + v);
            }
    }

    void forward(const NerfMlp& net) { layers_forward(net.layers, net.packed, panels_, x_); }

    // rgb [count][3], sigma [count], before any activation.
    void read(int count, float* rgb, float* sigma) {
        for (int s = 0; s < count; ++s) {
            const int p = s / panel::LANES, lane = s % panel::LANES;
            sigma[s] = x_.at(NerfMlp::HEAD, 0, p)[lane];
            for (int c = 0; c < 3; ++c) rgb[3 * s + c] = x_.at(NerfMlp::RGB, c, p)[lane];
        }
    }

    // Adds the parameters' gradients to `sums`, given those of what `read` gives.
    void backward(const NerfMlp& net, int count, const float* d_rgb, const float* d_sigma,
                  LayerGradients& sums) {
        for (int s = 0; s < panels_ * panel::LANES; ++s) {
            const int p = s / panel::LANES, lane = s % panel::LANES;
            sums.tile.at(NerfMlp::HEAD, 0, p)[lane] = s < count ? d_sigma[s] : 0.f;
            for (int c = 0; c < 3; ++c)
                sums.tile.at(NerfMlp::RGB, c, p)[lane] = s < count ? d_rgb[3 * s + c] : 0.f;
        }
        sums.backward(net.packed, panels_, x_);
    }

  private:
    TileBuffers x_;
    int panels_ = 0;
};

}  // namespace nk
