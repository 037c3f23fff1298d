// Linear layers on packed weights: a panel holds WIDE output columns, in the order in which the kernel reads them.
#pragma once

#include "matrix.h"
#include "team.h"
#include "vectors.h"

enum Dtype { FLOAT32, BFLOAT16, FLOAT16, INT8 };

extern "C" {

// A packed layer of `width` outputs. `scale` (int8 only) and `bias` are float32, one number for every column of the
// panels, or null. `unit`: what it is packed for, see `Unit`; activations are bfloat16 if that is not VECTORS.
struct Weights {
    const void* panels;
    const float* scale;
    const float* bias;
    int64_t dtype, unit, width, depth;
};

}  // extern "C"

namespace {

constexpr int DEPTH = 1024;  // steps of a linear layer between two visits of the same accumulator

struct Cut {  // `total` rows in `count` tiles of at most `rows`, as even as can be
    int64_t total, count, rows;
    int height(int64_t tile) const { return int(std::clamp<int64_t>(total - tile * rows, 0, rows)); }
};
Cut cut(int64_t total) {
    const int64_t count = (total + ROWS - 1) / ROWS;
    return {total, count, (total + count - 1) / count};
}

int64_t panels(int64_t width) { return (width + WIDE - 1) / WIDE; }

// Numbers of a panel.
int64_t panel_size(int64_t unit, int64_t depth) {
    const int64_t whole = unit == TILES ? 32 : unit == DOTS ? 2 : 1;  // inputs
    return WIDE * ((depth + whole - 1) / whole * whole);
}

template <class T>
void pack_rows(const T* x, int64_t x_row, int64_t steps, int rows, float* to) {  // [rows][steps] -> [steps][rows]
    for (int r = 0; r < rows; r++)
        for (int64_t k = 0; k < steps; k++) to[k * rows + r] = number(x[r * x_row + k]);
}

// Hands the sums of panel p to `finish(row, column, left, right)`, two vectors of LANES columns from `column` on.
template <class Finish>
void settle(const Weights& w, int64_t p, const float* sums, int64_t first, int64_t rows, const Finish& finish) {
    const vf none = {};
    const float *scale = w.scale + p * WIDE, *bias = w.bias + p * WIDE;
    const vf scales[2] = {w.scale ? load<vf>(scale) : none, w.scale ? load<vf>(scale + LANES) : none};
    const vf biases[2] = {w.bias ? load<vf>(bias) : none, w.bias ? load<vf>(bias + LANES) : none};
    for (int64_t r = 0; r < rows; r++, sums += WIDE) {
        vf left = load<vf>(sums), right = load<vf>(sums + LANES);
        if (w.scale) { left *= scales[0]; right *= scales[1]; }
        if (w.bias) { left += biases[0]; right += biases[1]; }
        finish(first + r, p * WIDE, left, right);
    }
}

// Every panel of a layer. Panels that threads have at the same time are far apart: neighbours end in one line of memory,
// which two cores would take from each other with every row.
template <class F> void each_panel(const Weights& w, int64_t threads, const F& run) {
    const int64_t count = panels(w.width), apart = (count + threads - 1) / threads;
    team().each(apart * threads, threads, [&](int64_t i) {
        if (const int64_t p = i % threads * apart + i / threads; p < count) run(p);
    });
}

template <class W, class T, class Finish>
void multiply_vectors(const Weights& w, const T* x, int64_t x_row, int64_t m, int64_t threads, const Finish& finish) {
    static thread_local Scratch rows_scratch;
    const Cut rows = cut(m);
    const int64_t depth = w.depth;
    float* a = rows_scratch.need(m * depth);
    team().each(rows.count, m * depth < 1 << 15 ? 1 : threads, [&](int64_t t) {
        const int64_t first = t * rows.rows;
        pack_rows(x + first * x_row, x_row, depth, rows.height(t), a + first * depth);
    });
    each_panel(w, threads, [&](int64_t p) {
        static thread_local Scratch scratch;
        float* c = scratch.need(m * WIDE + DEPTH * WIDE);
        float* wide = c + m * WIDE;
        const W* panel = static_cast<const W*>(w.panels) + p * depth * step_size<W>();
        if (rows.count == 1) {
            tiles<PACKED>(int(m), a, panel, step_size<W>(), depth, c, WIDE, true);
        } else {
            for (int64_t k = 0; k < depth; k += DEPTH) {
                const int64_t steps = std::min<int64_t>(DEPTH, depth - k);
                for (int64_t i = 0; i < steps; i++) {
                    const auto two = columns(panel + (k + i) * step_size<W>());
                    store(wide + i * WIDE, two.left);
                    store(wide + i * WIDE + LANES, two.right);
                }
                for (int64_t t = 0; t < rows.count; t++) {
                    const int64_t first = t * rows.rows, here = rows.height(t);
                    tiles<PACKED>(int(here), a + first * depth + k * here, wide, WIDE, steps, c + first * WIDE, WIDE, k == 0);
                }
            }
        }
        settle(w, p, c, 0, m, finish);
    });
}

#ifdef QUIRE_DOTS

template <class Finish>
void multiply_dots(const Weights& w, const bf16* x, int64_t x_row, int64_t m, int64_t threads, const Finish& finish) {
    static thread_local Scratch rows_scratch;
    const Cut rows = cut(m);
    const int64_t steps = (w.depth + 1) / 2;
    Pair* a = reinterpret_cast<Pair*>(rows_scratch.need(m * steps));
    team().each(rows.count, m * w.depth < 1 << 15 ? 1 : threads, [&](int64_t t) {
        const int64_t first = t * rows.rows;
        pack_pairs([&](int r) { return x + (first + r) * x_row; }, rows.height(t), w.depth, a + first * steps);
    });
    each_panel(w, threads, [&](int64_t p) {
        static thread_local Scratch scratch;
        float* sums = scratch.need(rows.rows * WIDE);
        const Pair* panel = static_cast<const Pair*>(w.panels) + p * steps * WIDE;
        for (int64_t first = 0, t = 0; first < m; first += rows.rows, t++) {
            tiles<PACKED>(rows.height(t), a + first * steps, panel, WIDE, steps, sums, WIDE, true);
            settle(w, p, sums, first, rows.height(t), finish);
        }
    });
}

#endif

#ifdef QUIRE_MATRIX

template <class Finish>
void multiply_tiles(const Weights& w, const bf16* x, int64_t x_row, int64_t m, int64_t threads, const Finish& finish) {
    static thread_local Scratch rows_scratch;
    const int64_t steps = (w.depth + DEEP - 1) / DEEP * DEEP, size = panel_size(TILES, w.depth);
    const int64_t count = (m + EDGE - 1) / EDGE;
    bf16* a = reinterpret_cast<bf16*>(rows_scratch.need(count * EDGE * steps / 2));
    team().each(count, m * w.depth < 1 << 15 ? 1 : threads, [&](int64_t t) {
        pack_rows(x + t * EDGE * x_row, x_row, std::min<int64_t>(EDGE, m - t * EDGE), w.depth, a + t * EDGE * steps);
    });

    each_panel(w, threads, [&](int64_t p) {
        static thread_local Scratch scratch;
        const Tiles session;
        float* sums = scratch.need(2 * EDGE * WIDE + size / 2);
        const bf16* weights = static_cast<const bf16*>(w.panels) + p * size;
        if (w.dtype == INT8) {
            bf16* wide = reinterpret_cast<bf16*>(sums + 2 * EDGE * WIDE);
            expand(static_cast<const int8_t*>(w.panels) + p * size, size, wide);
            weights = wide;
        }
        for (int64_t t = 0; t < count; t += 2) {
            const bool two = t + 1 < count, fetch = t == 0;
            const auto run = two ? (fetch ? panel<true, true> : panel<true, false>)
                                 : (fetch ? panel<false, true> : panel<false, false>);
            const bf16* rows = a + t * EDGE * steps;
            run(rows, rows + EDGE * steps, weights, steps, sums);
            settle(w, p, sums, t * EDGE, std::min<int64_t>(2 * EDGE, m - t * EDGE), finish);
        }
    });
}

#endif

// x[m] . weight[n] for every row m and output n, to `finish`. A row's sums do not depend on the other rows.
template <class T, class Finish>
void multiply(const Weights& w, const T* x, int64_t x_row, int64_t m, int64_t threads, const Finish& finish) {
    if constexpr (std::is_same_v<T, bf16>) {
#ifdef QUIRE_MATRIX
        if (w.unit == TILES) return multiply_tiles(w, x, x_row, m, threads, finish);
#endif
#ifdef QUIRE_DOTS
        if (w.unit == DOTS) return multiply_dots(w, x, x_row, m, threads, finish);
#endif
    }
    if (w.dtype == BFLOAT16) multiply_vectors<PairedBf16>(w, x, x_row, m, threads, finish);
    else if (w.dtype == FLOAT16) multiply_vectors<f16>(w, x, x_row, m, threads, finish);
    else if (w.dtype == INT8) multiply_vectors<Int8>(w, x, x_row, m, threads, finish);
    else multiply_vectors<float>(w, x, x_row, m, threads, finish);
}

// The results as they are, to out[m][out_row].
template <class T>
void linear(const Weights& w, const T* x, int64_t x_row, int64_t m, T* out, int64_t out_row, int64_t threads) {
    multiply(w, x, x_row, m, threads, [&](int64_t row, int64_t column, vf left, vf right) {
        T* to = out + row * out_row + column;
        if (column + WIDE <= w.width) {
            narrow(left, to);
            narrow(right, to + LANES);
        } else {
            for (int64_t j = 0; column + j < w.width; j++) narrow(j < LANES ? left[j] : right[j - LANES], to[j]);
        }
    });
}

// weight [width][depth] -> panels. `put(panel, step, column, number or null)` says where a number goes.
template <class T, class Put> void pack(const T* weight, int64_t width, int64_t depth, int64_t threads, const Put& put) {
    team().each(panels(width), threads, [&](int64_t p) {
        for (int64_t k = 0; k < depth; k++)
            for (int j = 0; j < WIDE; j++)
                put(p, k, j, p * WIDE + j < width ? weight + (p * WIDE + j) * depth + k : nullptr);
    });
}

// Tiles of pairs of steps by EDGE columns; steps beyond `depth` are zero.
template <class T> void pack_tiles(const T* weight, int64_t width, int64_t depth, int64_t threads, T* to) {
    const int64_t size = panel_size(TILES, depth);
    std::memset(to, 0, panels(width) * size * sizeof(T));
    pack(weight, width, depth, threads, [&](int64_t p, int64_t k, int j, const T* x) {
        T* tile = to + p * size + k / 32 * 1024 + j / 16 * 512;
        if (x) tile[k % 32 / 2 * 32 + j % 16 * 2 + k % 2] = *x;
    });
}

template <class T> void pack_columns(const T* weight, int64_t width, int64_t depth, int64_t threads, T* to) {
    pack(weight, width, depth, threads, [&](int64_t p, int64_t k, int j, const T* x) {
        to[(p * depth + k) * WIDE + j] = x ? *x : T{};
    });
}

// Pairs of inputs, WIDE outputs side by side; an odd depth ends with zeros.
void pack_dots(const bf16* weight, int64_t width, int64_t depth, int64_t threads, bf16* to) {
    const int64_t size = panel_size(DOTS, depth);
    std::memset(to, 0, panels(width) * size * sizeof(bf16));
    pack(weight, width, depth, threads, [&](int64_t p, int64_t k, int j, const bf16* x) {
        if (x) to[p * size + (k / 2 * WIDE + j) * 2 + k % 2] = *x;
    });
}

void pack_columns_paired(const bf16* weight, int64_t width, int64_t depth, int64_t threads, PairedBf16* to) {
    pack(weight, width, depth, threads, [&](int64_t p, int64_t k, int j, const bf16* x) {
        const uint32_t bits = x ? x->bits : 0;
        PairedBf16& pair = to[(p * depth + k) * LANES + j % LANES];
        pair.bits = j < LANES ? bits : pair.bits | bits << 16;
    });
}

}  // namespace
