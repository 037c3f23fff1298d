// Products of bfloat16 by the vectors' own instruction (AVX512_BF16): sixteen sums in float32, each plus two products.
//
// What is multiplied lies in pairs: two numbers of 16 bits, neighbours in the dimension that is summed over.
#pragma once

#include "vectors.h"

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && !defined(QUIRE_VECTORS_ONLY)
#define QUIRE_DOTS 1
#endif

namespace {

enum Unit { VECTORS, DOTS, TILES };  // what multiplies bfloat16

#ifdef QUIRE_DOTS

constexpr int DEEP = 2 * LANES;  // bfloat16 numbers in a vector
constexpr int BEYOND = 2048;     // numbers of keys and values that are asked for ahead: the processor stops at every page

struct __attribute__((may_alias)) Pair { uint32_t bits; };

struct TwoOfPairs { __m512bh left, right; };
TwoOfPairs columns(const Pair* p) { return {load<__m512bh>(p), load<__m512bh>(p + LANES)}; }

vf plus(vf sum, Pair a, __m512bh b) {
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(int(a.bits)), b);
}

// rows x[rows][depth] -> [pairs][rows]; an odd depth ends with a zero.
template <class Row> void pack_pairs(Row row, int rows, int64_t depth, Pair* to) {
    for (int r = 0; r < rows; r++) {
        const bf16* x = row(r);
        for (int64_t k = 0; k + 1 < depth; k += 2) to[k / 2 * rows + r] = load<Pair>(x + k);
        if (depth % 2) to[depth / 2 * rows + r] = {x[depth - 1].bits};
    }
}

__mmask32 first_numbers(int64_t count) { return count >= DEEP ? ~0u : (1u << count) - 1; }

// keys [count][dim], zeros behind them -> `put(key, d, i, pairs)`: pairs d / 2 + i of LANES keys from `key` on.
template <class Put> void transposed_keys(const bf16* keys, int count, int until, int64_t dim, const Put& put) {
    for (int first = 0; first < until; first += LANES)
        for (int64_t d = 0; d < dim; d += DEEP) {
            vu v[LANES];
            for (int i = 0; i < LANES; i++) {
                const bf16* key = keys + (first + i) * dim + d;
                _mm_prefetch(key + BEYOND, _MM_HINT_T1);
                v[i] = (vu)_mm512_maskz_loadu_epi16(first + i < count ? first_numbers(dim - d) : 0, key);
            }
            transpose(v);
            for (int i = 0; i < LANES; i++) put(first, d, i, v[i]);
        }
}

// values [count][dim], zeros behind them -> `put(key, d, left, right)`: pairs of keys `key` and `key` + 1, of LANES
// dimensions from d on, and of LANES behind them.
template <class Put> void paired_values(const bf16* values, int count, int until, int64_t dim, const Put& put) {
    uint16_t order[2][DEEP];
    for (int i = 0; i < DEEP; i++) {
        order[0][i] = i % 2 * DEEP + i / 2;
        order[1][i] = order[0][i] + LANES;
    }
    const __m512i left = load<__m512i>(order[0]), right = load<__m512i>(order[1]);
    for (int key = 0; key < until; key += 2)
        for (int64_t d = 0; d < dim; d += DEEP) {
            const bf16* at = values + key * dim + d;
            _mm_prefetch(at + BEYOND, _MM_HINT_T1);
            _mm_prefetch(at + BEYOND + dim, _MM_HINT_T1);
            const __m512i a = _mm512_maskz_loadu_epi16(key < count ? first_numbers(dim - d) : 0, at);
            const __m512i b = _mm512_maskz_loadu_epi16(key + 1 < count ? first_numbers(dim - d) : 0, at + dim);
            put(key, d, _mm512_permutex2var_epi16(a, left, b), _mm512_permutex2var_epi16(a, right, b));
        }
}

// Probabilities that are rounded to bfloat16, as flash attention does.
struct RoundedShares {
    using Element = bf16;
    static constexpr bool IN_PLACE = false;  // they lie beside the scores

    static vf power(vf x) {  // 2^x to eleven bits and more, of which bfloat16 keeps eight
        const __m512 whole = _mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const vf f = x - (vf)whole;
        vf y = vf{} + 9.6181291e-3f;
        y = y * f + 5.5504109e-2f;
        y = y * f + 2.4022651e-1f;
        y = y * f + 6.9314718e-1f;
        y = y * f + 1.0f;
        return (vf)_mm512_scalef_ps((__m512)y, whole);
    }

    static void keep(vf left, vf right, bf16* to) { store(to, _mm512_cvtne2ps_pbh((__m512)right, (__m512)left)); }
};

// What attention needs of a unit that multiplies: how operands lie, and the two products. See `VectorUnit`.
struct DotUnit : RoundedShares {
    struct Session {};
    static constexpr int ROWS = ::ROWS, BLOCK = ::BLOCK, STEP = WIDE;

    static int64_t depth(int64_t, int64_t padded) { return padded; }

    // rows of [dim] -> pairs [padded / 2][rows], zeros from dim on.
    template <class Row> static void pack_queries(Row row, int rows, int64_t dim, int64_t padded, bf16* to) {
        std::memset(to, 0, rows * padded * sizeof(bf16));
        ::pack_pairs(row, rows, dim, reinterpret_cast<Pair*>(to));
    }

    // keys [count][dim] -> pairs [padded / 2][BLOCK], zeros behind `count` up to a multiple of STEP.
    static void pack_keys(const bf16* keys, int count, int64_t dim, int64_t, bf16* to) {
        transposed_keys(keys, count, (count + STEP - 1) / STEP * STEP, dim, [&](int key, int64_t d, int i, vu pairs) {
            store(to + ((d / 2 + i) * BLOCK + key) * 2, pairs);
        });
    }

    // values [count][dim] -> pairs [count / 2][padded], zeros behind both.
    static void pack_values(const bf16* values, int count, int64_t dim, int64_t padded, bf16* to) {
        paired_values(values, count, count, dim, [&](int key, int64_t d, __m512i left, __m512i right) {
            store(to + (key / 2 * padded + d) * 2, left);
            store(to + (key / 2 * padded + d + LANES) * 2, right);
        });
    }

    // scores[rows][BLOCK] = queries x keys.
    template <class Ahead>
    static void score(int rows, const bf16* queries, const bf16* keys, int count, int64_t padded, float* scores, Ahead&) {
        for (int j = 0; j < count; j += WIDE)
            tiles<PACKED>(rows, pairs(queries), pairs(keys) + j, BLOCK, padded / 2, scores + j, BLOCK, true);
    }

    // sums[rows][padded] += shares[rows][BLOCK] x values.
    template <class Ahead>
    static void weigh(int rows, const bf16* shares, const bf16* values, int count, int64_t padded, float* sums, Ahead&) {
        for (int64_t d = 0; d < padded; d += WIDE)
            tiles<BLOCK / 2>(rows, pairs(shares), pairs(values) + d, padded, (count + 1) / 2, sums + d, padded, false);
    }

  private:
    static const Pair* pairs(const bf16* numbers) { return reinterpret_cast<const Pair*>(numbers); }
};

#endif

}  // namespace
