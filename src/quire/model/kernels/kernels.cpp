// What Python calls: linear layers and attention over shared segments for CPUs, in float32 sums of stored dtypes.
//
// Two properties carry everything else:
//
// * Few inner loops. Products are tiles of sums that stay in registers: of ROWS x 2 vectors (with ROWS = 12 and 16 lanes
//   that is 24 accumulators, enough to keep two fused multiply-add units busy; Goto and van de Geijn, "Anatomy of
//   high-performance matrix multiplication", 2008), or of the matrix unit where the processor has one.
// * One order. A number of the result is the same chain of additions whatever else is in the batch, however many
//   threads run and however a prompt is cut into chunks. Keys are taken in blocks and splits counted from the start of
//   their segment; a masked key adds an exact zero. So a request's bits do not depend on its company.

#include "attention.h"
#include "decoder.h"
#include "linear.h"

namespace {

template <class Run> void with_type(int64_t dtype, const Run& run) {
    if (dtype == BFLOAT16) run(bf16{});
    else if (dtype == FLOAT16) run(f16{});
    else run(0.0f);
}

// The first of the largest of `width` numbers; -1 if it is not finite, or any of them is none.
template <class T> int64_t likeliest(const T* x, int64_t width) {
    vf best = vf{} + NONE;
    vi place{}, at, none{};
    for (int i = 0; i < LANES; i++) at[i] = i;
    int64_t d = 0;
    for (; d + LANES <= width; d += LANES, at += LANES) {
        const vf v = widen(x + d);
        const vi better = v > best;
        best = better ? v : best;
        place = better ? at : place;
        none |= v != v;
    }
    float most = NONE;
    int64_t where = 0;
    bool odd = any(none);
    for (int i = 0; i < LANES; i++)
        if (best[i] > most || (best[i] == most && place[i] < where)) { most = best[i]; where = place[i]; }
    for (; d < width; d++) {
        const float v = number(x[d]);
        if (v > most) { most = v; where = d; }
        odd |= v != v;
    }
    return odd || !std::isfinite(most) ? -1 : where;
}

}  // namespace

extern "C" {

// What the Python side must know of the constants above.
void quire_constants(int64_t* to) { to[0] = WIDE; to[1] = SPLIT; to[2] = ROW_CHUNK; to[3] = unit(); }

// The instruction set that does most of the work.
const char* quire_level() {
    switch (unit()) {
        case TILES: return "AMX";
        case DOTS: return "AVX512_BF16";
        default: break;
    }
#if defined(__AVX512F__)
    return "AVX512";
#elif defined(__AVX2__)
    return "AVX2";
#elif defined(__ARM_NEON)
    return "NEON";
#else
    return "baseline";
#endif
}

// An instruction set that this file was compiled for and the processor, or its system, lacks; null if there is none. It
// is asked before anything else, since an instruction that is not there ends the process.
const char* quire_lacking() {
#define QUIRE_NEED(name) if (!__builtin_cpu_supports(name)) return name
#if defined(__x86_64__)
#if defined(__AVX2__)
    QUIRE_NEED("avx2");
#endif
#if defined(__FMA__)
    QUIRE_NEED("fma");
#endif
#if defined(__AVX512F__)
    QUIRE_NEED("avx512f");
#endif
#if defined(__AVX512BW__)
    QUIRE_NEED("avx512bw");
#endif
#if defined(__AVX512DQ__)
    QUIRE_NEED("avx512dq");
#endif
#if defined(__AVX512VL__)
    QUIRE_NEED("avx512vl");
#endif
#if defined(__AVX512BF16__)
    QUIRE_NEED("avx512bf16");
#endif
#endif
#undef QUIRE_NEED
    return nullptr;
}

void quire_attend(const Attention* plan, int64_t layer, const void* q, const void* k, const void* v,
                  const int64_t* strides, void* out) {
    with_type(plan->dtype, [&](auto example) {
        using T = decltype(example);
        attend(*plan, layer, static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), strides,
               static_cast<T*>(out));
    });
}

// x [rows] of [dim], x_row apart -> out [rows][dim].
void quire_norm(const void* x, int64_t x_row, const void* weight, double epsilon, void* out, int64_t dtype, int64_t rows,
                int64_t dim) {
    with_type(dtype, [&](auto example) {
        using T = decltype(example);
        const T* from = static_cast<const T*>(x);
        for (int64_t r = 0; r < rows; r++)
            norm(from + r * x_row, static_cast<const T*>(weight), float(epsilon), static_cast<T*>(out) + r * dim, dim);
    });
}

// Numbers that the panels of a layer take.
int64_t quire_packed_size(int64_t unit, int64_t width, int64_t depth) { return panels(width) * panel_size(unit, depth); }

// weight [width][depth] in `dtype` -> panels for `unit`, see `Unit`. DOTS takes bfloat16, TILES int8 too.
void quire_pack(const void* weight, int64_t dtype, int64_t unit, int64_t width, int64_t depth, void* to, int64_t threads) {
    if (dtype == INT8) {
        const auto* from = static_cast<const int8_t*>(weight);
        if (unit == TILES) pack_tiles(from, width, depth, threads, static_cast<int8_t*>(to));
        else pack_columns(from, width, depth, threads, static_cast<int8_t*>(to));
    } else if (dtype == BFLOAT16) {
        const auto* from = static_cast<const bf16*>(weight);
        if (unit == TILES) pack_tiles(from, width, depth, threads, static_cast<bf16*>(to));
        else if (unit == DOTS) pack_dots(from, width, depth, threads, static_cast<bf16*>(to));
        else pack_columns_paired(from, width, depth, threads, static_cast<PairedBf16*>(to));
    } else if (dtype == FLOAT16) {
        pack_columns(static_cast<const f16*>(weight), width, depth, threads, static_cast<f16*>(to));
    } else {
        pack_columns(static_cast<const float*>(weight), width, depth, threads, static_cast<float*>(to));
    }
}

// out [m][width], out_row apart, = x [m][depth], x_row apart, times the layer's weights; both in `dtype`.
void quire_linear(const Weights* weights, const void* x, int64_t x_row, void* out, int64_t out_row, int64_t dtype,
                  int64_t m, int64_t threads) {
    with_type(dtype, [&](auto example) {
        using T = decltype(example);
        linear(*weights, static_cast<const T*>(x), x_row, m, static_cast<T*>(out), out_row, threads);
    });
}

// to[rows]: the first of the largest of each row's `width` logits; -1: it is not a finite number.
void quire_likeliest(const void* logits, int64_t dtype, int64_t rows, int64_t width, int64_t* to, int64_t threads) {
    with_type(dtype, [&](auto example) {
        const auto* from = static_cast<const decltype(example)*>(logits);
        team().each(rows, threads, [&](int64_t r) { to[r] = likeliest(from + r * width, width); });
    });
}

// All layers of one pass over hidden [tokens][width], in place. cosines, sines: [tokens][dim], of the tokens' positions.
void quire_decode(const Decoder* decoder, const Attention* plan, const void* cosines, const void* sines, void* hidden) {
    with_type(plan->dtype, [&](auto example) {
        using T = decltype(example);
        Pass<T>{*decoder, *plan, static_cast<const T*>(cosines), static_cast<const T*>(sines), static_cast<T*>(hidden)}.run();
    });
}

}  // extern "C"
