// The network of NSVF on a tile of samples: forward that keeps the activations, and backward from
// them down to the interpolated embeddings. With `color` false it ends at the density.
#pragma once
#include "encodings/frequency.h"
#include "nerf_mlp/layers.h"

namespace nk {

struct NsvfMlpShape {
    int embedding, width, density_width, feature_layers, color_layers;
    int embedding_frequencies, direction_frequencies;

    int embedding_rows() const { return embedding * (1 + 2 * embedding_frequencies); }
    int direction_rows() const { return 3 + 6 * direction_frequencies; }
};

// Where samples are and what they look at; see nerfkit.kernels.nsvf_mlp.
struct NsvfSamples {
    const float* table;
    const int32_t* corners;
    const int64_t* voxels;
    const float* places;
    const float* directions;     // NULL: no colour is wanted
    const int64_t* ray_indices;  // NULL: a direction each
};

// Trilinear weights of the corners at a place [3] of a voxel.
inline void corner_weights(const float* place, float* weights) {
    for (int c = 0; c < 8; ++c) {
        float weight = 1.f;
        for (int a = 0; a < 3; ++a) weight *= c >> a & 1 ? place[a] : 1.f - place[a];
        weights[c] = weight;
    }
}

struct NsvfMlp {
    NsvfMlp(const NsvfMlpShape& shape, const float* params, bool color, bool backward)
        : shape(shape),
          color(color),
          layers(wire(shape)),
          n_layers(color ? kAllLayers : shape.feature_layers + 2),
          packed(layers, params, backward, n_layers) {}

    // Buffers: encoded embedding, [features, direction], sigma, rgb, then one a layer.
    static constexpr int EMBEDDING = 0, FEATURES = 1, SIGMA = 2, RGB = 3;

    static Layers wire(const NsvfMlpShape& s) {
        Layers layers;
        layers.add_buffer(s.embedding_rows());
        layers.add_buffer(s.width + s.direction_rows());
        layers.add_buffer(1);
        layers.add_buffer(3);
        Rows in{EMBEDDING, 0, s.embedding_rows()};
        layers.want(in);
        const Rows features{FEATURES, 0, s.width};
        for (int l = 1; l <= s.feature_layers; ++l) {
            const Rows out =
                l == s.feature_layers ? features : Rows{layers.add_buffer(s.width), 0, s.width};
            layers.add(in, out, true);
            in = out;
        }
        const Rows density{layers.add_buffer(s.density_width), 0, s.density_width};
        layers.add(features, density, true);
        layers.add(density, {SIGMA, 0, 1}, false);
        in = {FEATURES, 0, s.width + s.direction_rows()};
        for (int l = 0; l < s.color_layers; ++l) {
            const Rows out{layers.add_buffer(s.width), 0, s.width};
            layers.add(in, out, true);
            in = out;
        }
        layers.add(in, {RGB, 0, 3}, false);
        return layers;
    }

    NsvfMlpShape shape;
    bool color;
    Layers layers;
    int n_layers;
    PackedLayers packed;
};

class NsvfMlpTile {
  public:
    static constexpr int SAMPLES = 256;
    static constexpr int PANELS = SAMPLES / panel::LANES;

    explicit NsvfMlpTile(const NsvfMlp& net) : x_(net.layers, PANELS) {}

    // Samples [first, first + count). Padding repeats the last one.
    void encode(const NsvfMlp& net, const NsvfSamples& samples, int64_t first, int count) {
        panels_ = static_cast<int>(panel::count(count));
        const NsvfMlpShape& shape = net.shape;
        for (int p = 0; p < panels_; ++p)
            for (int lane = 0; lane < panel::LANES; ++lane) {
                const int at = p * panel::LANES + lane;
                const int64_t sample = first + (at < count ? at : count - 1);
                interpolate(samples, sample, shape.embedding,
                            x_.at(NsvfMlp::EMBEDDING, 0, p) + lane);
                if (!net.color) continue;
                const int64_t ray = samples.ray_indices ? samples.ray_indices[sample] : sample;
                float* to = x_.at(NsvfMlp::FEATURES, shape.width, p) + lane;
                for (int a = 0; a < 3; ++a) to[a * panel::LANES] = samples.directions[3 * ray + a];
            }
        for (int p = 0; p < panels_; ++p) {
            encode_rows(x_.at(NsvfMlp::EMBEDDING, 0, p), shape.embedding,
                        shape.embedding_frequencies);
            if (net.color)
                encode_rows(x_.at(NsvfMlp::FEATURES, shape.width, p), 3,
                            shape.direction_frequencies);
        }
    }

    void forward(const NsvfMlp& net) {
        layers_forward(net.layers, net.packed, panels_, x_, net.n_layers);
    }

    // sigma [count] and, of a network with colour, rgb [count][3], before any activation.
    void read(const NsvfMlp& net, int count, float* rgb, float* sigma) {
        for (int s = 0; s < count; ++s) {
            const int p = s / panel::LANES, lane = s % panel::LANES;
            sigma[s] = x_.at(NsvfMlp::SIGMA, 0, p)[lane];
            for (int c = 0; net.color && c < 3; ++c)
                rgb[3 * s + c] = x_.at(NsvfMlp::RGB, c, p)[lane];
        }
    }

    // Adds the parameters' gradients to `sums` and writes those of the interpolated embeddings,
    // [count][embedding], given those of what `read` gives.
    void backward(const NsvfMlp& net, int count, const float* d_rgb, const float* d_sigma,
                  LayerGradients& sums, float* d_embedding) {
        for (int s = 0; s < panels_ * panel::LANES; ++s) {
            const int p = s / panel::LANES, lane = s % panel::LANES;
            sums.tile.at(NsvfMlp::SIGMA, 0, p)[lane] = s < count ? d_sigma[s] : 0.f;
            for (int c = 0; net.color && c < 3; ++c)
                sums.tile.at(NsvfMlp::RGB, c, p)[lane] = s < count ? d_rgb[3 * s + c] : 0.f;
        }
        sums.backward(net.packed, panels_, x_, net.n_layers);
        const int n = net.shape.embedding, frequencies = net.shape.embedding_frequencies;
        for (int p = 0; p < panels_; ++p) {
            const float* x = x_.at(NsvfMlp::EMBEDDING, 0, p);
            float* g = sums.tile.at(NsvfMlp::EMBEDDING, 0, p);
            decode_rows(x, g, n, frequencies);
            for (int lane = 0; lane < panel::LANES && p * panel::LANES + lane < count; ++lane) {
                float* to = d_embedding + int64_t(p * panel::LANES + lane) * n;
                for (int i = 0; i < n; ++i) to[i] = g[i * panel::LANES + lane];
            }
        }
    }

  private:
    // One lane of rows [n][LANES].
    static void interpolate(const NsvfSamples& samples, int64_t sample, int n, float* to) {
        float weights[8];
        corner_weights(samples.places + 3 * sample, weights);
        const int32_t* corners = samples.corners + 8 * samples.voxels[sample];
        const float* rows[8];
        for (int c = 0; c < 8; ++c) rows[c] = samples.table + int64_t(corners[c]) * n;
        for (int i = 0; i < n; ++i) {
            float sum = 0.f;
            for (int c = 0; c < 8; ++c) sum += weights[c] * rows[c][i];
            to[i * panel::LANES] = sum;
        }
    }

    // Below rows x [n][LANES] those of sin x, cos x, sin 2x, ..., n each.
    static void encode_rows(float* x, int n, int frequencies) {
        typedef uint32_t vu __attribute__((vector_size(VL * 4)));
        const int64_t block = int64_t(n) * panel::LANES;
        for (int64_t at = 0; at < block; at += VL) {
            int64_t turns[VL];
            for (int lane = 0; lane < VL; ++lane) turns[lane] = quarter_turns(x[at + lane]);
            vi sine = {};
            for (int k = 0; k < frequencies; ++k) {
                // A doubled angle has one bit less: now and then they are taken anew.
                if (k % 4 == 0)
                    for (int lane = 0; lane < VL; ++lane) sine[lane] = angle(turns[lane], k);
                else
                    sine = (vi)((vu)sine << 1);
                store(x + (1 + 2 * k) * block + at, sin_of(sine));
                store(x + (2 + 2 * k) * block + at, sin_of((vi)((vu)sine + (1u << kQuarter))));
            }
        }
    }

    // The first n rows of g become the gradient of x, given that of what encode_rows made of it.
    static void decode_rows(const float* x, float* g, int n, int frequencies) {
        const int64_t block = int64_t(n) * panel::LANES;
        for (int64_t at = 0; at < block; at += VL) {
            vf sum = load(g + at);
            for (int k = 0; k < frequencies; ++k) {
                const int64_t sine = (1 + 2 * k) * block + at, cosine = sine + block;
                sum += static_cast<float>(1 << k) *
                       (load(g + sine) * load(x + cosine) - load(g + cosine) * load(x + sine));
            }
            store(g + at, sum);
        }
    }

    TileBuffers x_;
    int panels_ = 0;
};

}  // namespace nk
