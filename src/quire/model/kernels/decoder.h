// A stack of decoder layers in one call: what lies between the matrix products of a step is as dear as they are when it
// is asked for piece by piece.
//
// The layers are those of Llama and its kin: normalize, attend, add; normalize, gate, add. Numbers are rounded to the
// stored dtype wherever transformers rounds them.
#pragma once

#include "attention.h"

extern "C" {

struct Layer {
    Weights qkv, out, gate_up, down;  // gate_up: LANES columns of gate, then LANES of up, and so on
    const void *input_norm, *q_norm, *k_norm, *post_norm;  // weights; q_norm and k_norm may be null
};

struct Decoder {
    int64_t layers, width, inner;  // inner: columns of gate
    float epsilon;
    const Layer* layer;
};

}  // extern "C"

namespace {

// out = weight * x / sqrt(mean(x^2) + epsilon), rounded where transformers rounds: after the division, and at the end.
template <class T> void norm(const T* x, const T* weight, float epsilon, T* out, int64_t dim) {
    vf squares = vf{};
    float rest = 0.0f;
    int64_t d = 0;
    for (; d + LANES <= dim; d += LANES) {
        const vf v = widen(x + d);
        squares += v * v;
    }
    for (; d < dim; d++) rest += number(x[d]) * number(x[d]);
    const float scale = 1.0f / std::sqrt((total(squares) + rest) / float(dim) + epsilon);
    for (d = 0; d + LANES <= dim; d += LANES) narrow(rounded<T>(widen(x + d) * scale) * widen(weight + d), out + d);
    for (; d < dim; d++) narrow(rounded<T>(number(x[d]) * scale) * number(weight[d]), out[d]);
}

// Rotary positions of one head, in place: pairs are (d, d + dim / 2) (Su et al., arXiv 2104.09864, as in GPT-NeoX).
template <class T> void rotate(T* x, const T* cosine, const T* sine, int64_t dim) {
    const int64_t half = dim / 2;
    int64_t d = 0;
    for (; d + LANES <= half; d += LANES) {
        const vf a = widen(x + d), b = widen(x + half + d);
        const vf left = rounded<T>(a * widen(cosine + d)) + rounded<T>(-b * widen(sine + d));
        const vf right = rounded<T>(b * widen(cosine + half + d)) + rounded<T>(a * widen(sine + half + d));
        narrow(left, x + d);
        narrow(right, x + half + d);
    }
    for (; d < half; d++) {
        const float a = number(x[d]), b = number(x[half + d]);
        const float left = rounded<T>(a * number(cosine[d])) + rounded<T>(-b * number(sine[d]));
        const float right = rounded<T>(b * number(cosine[half + d])) + rounded<T>(a * number(sine[half + d]));
        narrow(left, x[d]);
        narrow(right, x[half + d]);
    }
}

vf sigmoid(vf x) {
    const vf power = exp2_of((x < 0.0f ? x : -x) * LOG2E), one = vf{} + 1.0f;
    return (x < 0.0f ? power : one) / (one + power);
}

template <class T> struct Pass {
    const Decoder& decoder;
    const Attention& plan;
    const T *cosines, *sines;
    T* hidden;

    void run() const {
        static thread_local Scratch memory[4];
        const auto room = [&](int i, int64_t columns) {
            return reinterpret_cast<T*>(memory[i].need(plan.tokens * columns * sizeof(T) / sizeof(float) + 1));
        };
        const int64_t dim = plan.dim, q_width = plan.heads * dim, kv_width = plan.kv_heads * dim;
        const int64_t qkv_width = q_width + 2 * kv_width;
        T *normal = room(0, decoder.width), *qkv = room(1, qkv_width), *mixed = room(2, q_width), *inner = room(3, decoder.inner);
        const int64_t strides[6] = {qkv_width, dim, qkv_width, dim, qkv_width, dim};
        for (int64_t i = 0; i < decoder.layers; i++) {
            const Layer& layer = decoder.layer[i];
            normalize(layer.input_norm, normal);
            linear(layer.qkv, normal, decoder.width, plan.tokens, qkv, qkv_width, plan.threads);
            position(layer, qkv, qkv_width);
            attend(plan, i, qkv, qkv + q_width, qkv + q_width + kv_width, strides, mixed);
            add(layer.out, mixed, q_width);
            normalize(layer.post_norm, normal);
            gate(layer.gate_up, normal, inner);
            add(layer.down, inner, decoder.inner);
        }
    }

    template <class F> void each_token(int64_t numbers, const F& token) const {  // `numbers` of work for each
        const int64_t some = std::max<int64_t>(1, (1 << 14) / numbers);
        team().each((plan.tokens + some - 1) / some, plan.threads, [&](int64_t piece) {
            for (int64_t t = piece * some; t < std::min(plan.tokens, (piece + 1) * some); t++) token(t);
        });
    }

    void normalize(const void* weight, T* to) const {
        each_token(decoder.width, [&](int64_t t) {
            norm(hidden + t * decoder.width, static_cast<const T*>(weight), decoder.epsilon, to + t * decoder.width, decoder.width);
        });
    }

    void position(const Layer& layer, T* qkv, int64_t row) const {
        const int64_t dim = plan.dim, heads = plan.heads + plan.kv_heads;
        each_token(row, [&](int64_t t) {
            for (int64_t h = 0; h < heads; h++) {
                T* head = qkv + t * row + h * dim;
                const void* weight = h < plan.heads ? layer.q_norm : layer.k_norm;
                if (weight) norm(head, static_cast<const T*>(weight), decoder.epsilon, head, dim);
                rotate(head, cosines + t * dim, sines + t * dim, dim);
            }
        });
    }

    // hidden += layer(x)
    void add(const Weights& w, const T* x, int64_t x_row) const {
        multiply(w, x, x_row, plan.tokens, plan.threads, [&](int64_t row, int64_t column, vf left, vf right) {
            T* to = hidden + row * decoder.width + column;
            if (column + WIDE <= w.width) {
                narrow(widen(to) + rounded<T>(left), to);
                narrow(widen(to + LANES) + rounded<T>(right), to + LANES);
            } else {
                for (int64_t j = 0; column + j < w.width; j++)
                    narrow(number(to[j]) + rounded<T>(j < LANES ? left[j] : right[j - LANES]), to[j]);
            }
        });
    }

    // to = gate(x) * sigmoid(gate(x)) * up(x)
    void gate(const Weights& w, const T* x, T* to) const {
        multiply(w, x, decoder.width, plan.tokens, plan.threads, [&](int64_t row, int64_t column, vf left, vf right) {
            const vf gated = rounded<T>(left);
            narrow(rounded<T>(gated * sigmoid(gated)) * rounded<T>(right), to + row * decoder.inner + column / 2);
        });
    }
};

}  // namespace
