// Products of bfloat16 matrices by the processor's matrix unit (Intel AMX): tiles of 16 rows of 64 bytes, one instruction
// multiplies 16 x 32 by 32 x 16 numbers and adds to 16 x 16 sums in float32.
//
// A sum takes its 32 products two by two, in order, whatever the other rows of the tile hold: so the matrix unit keeps
// the promise that a request's bits do not depend on its company.
#pragma once

#include "dots.h"

#if defined(QUIRE_DOTS) && defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__) && \
    !defined(QUIRE_DOTS_ONLY)
#define QUIRE_MATRIX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

#ifdef QUIRE_MATRIX

constexpr int EDGE = 16;  // rows of a tile, and columns of sums; a row holds DEEP numbers
constexpr int TILE = EDGE * DEEP;
constexpr int AHEAD = 512;  // numbers of weights that are asked for before they are needed

// Whether the system lets this process use the tiles' registers, which it saves at every switch from then on.
bool matrix_unit() {
    constexpr int REQUEST = 0x1023, TILES = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool granted = syscall(SYS_arch_prctl, REQUEST, TILES) == 0;
    return granted;
}

struct Shape {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {EDGE, EDGE, EDGE, EDGE, EDGE, EDGE, EDGE, EDGE};
};

// The tiles of this thread for as long as it lives. Other code may use them in between, so nobody keeps them longer.
struct Tiles {
    Tiles() { static const Shape full; _tile_loadconfig(&full); }
    ~Tiles() { _tile_release(); }
};

// sums[16 or 32][WIDE] = rows of a (and below) x one panel of weights. Rows lie in tiles, one for each DEEP steps; a panel holds two tiles of pairs for each DEEP steps.
// `FETCH`: the weights come from memory, and the processor's own prefetching stops at every page.
template <bool TWO, bool FETCH>
void panel(const bf16* a, const bf16* below, const bf16* weights, int64_t steps, float* sums) {
    const int64_t line = WIDE * sizeof(float);
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (TWO) { _tile_zero(2); _tile_zero(3); }
    for (int64_t k = 0; k < steps; k += DEEP, weights += 2 * TILE, a += TILE, below += TILE) {
        if constexpr (FETCH)
            for (int i = 0; i < 2 * TILE; i += 32) _mm_prefetch(weights + i + AHEAD, _MM_HINT_T0);
        _tile_loadd(6, weights, 64);
        _tile_loadd(7, weights + TILE, 64);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (TWO) {
            _tile_loadd(5, below, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + EDGE, line);
    if constexpr (TWO) {
        _tile_stored(2, sums + EDGE * WIDE, line);
        _tile_stored(3, sums + EDGE * WIDE + EDGE, line);
    }
}

// rows x[EDGE or fewer][depth] -> tiles; what is not there is zero.
void pack_rows(const bf16* x, int64_t x_row, int64_t rows, int64_t depth, bf16* to) {
    for (int64_t k = 0; k < depth; k += DEEP, to += TILE) {
        const int64_t size = std::min<int64_t>(DEEP, depth - k) * sizeof(bf16);
        if (rows < EDGE || size < 64) std::memset(to, 0, TILE * sizeof(bf16));
        for (int64_t r = 0; r < rows; r++) std::memcpy(to + r * DEEP, x + r * x_row + k, size);
    }
}

void expand(const int8_t* from, int64_t count, bf16* to) {  // exactly: bfloat16 has eight significant bits
    for (int64_t i = 0; i < count; i += DEEP) {
        const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)(from + i))));
        const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)(from + i + EDGE))));
        store(to + i, _mm512_cvtne2ps_pbh(high, low));
    }
}

// What attention needs of a unit that multiplies: how operands lie, and the two products. See `VectorUnit`.
struct MatrixUnit : RoundedShares {
    using Session = Tiles;
    static constexpr int ROWS = EDGE, BLOCK = 128, STEP = 4 * EDGE;

    static int64_t depth(int64_t, int64_t padded) { return padded; }

    // rows of [dim] -> [ROWS][padded]; what is not there is zero.
    template <class Row> static void pack_queries(Row row, int rows, int64_t dim, int64_t padded, bf16* to) {
        std::memset(to, 0, ROWS * padded * sizeof(bf16));
        for (int r = 0; r < rows; r++) std::memcpy(to + r * padded, row(r), dim * sizeof(bf16));
    }

    // keys [count][dim] -> tiles of pairs of dimensions by EDGE keys, zeros up to a multiple of STEP.
    static void pack_keys(const bf16* keys, int count, int64_t dim, int64_t padded, bf16* to) {
        transposed_keys(keys, count, count, dim, [&](int key, int64_t d, int i, vu pairs) {
            store(to + (key * padded + d * EDGE) + i * DEEP, pairs);
        });
        const int whole = (count + EDGE - 1) / EDGE, wanted = (count + STEP - 1) / STEP * (STEP / EDGE);
        std::memset(to + whole * EDGE * padded, 0, (wanted - whole) * EDGE * padded * sizeof(bf16));
    }

    // values [count][dim] -> tiles of pairs of keys by EDGE dimensions, zeros up to a multiple of STEP.
    static void pack_values(const bf16* values, int count, int64_t dim, int64_t padded, bf16* to) {
        paired_values(values, count, (count + STEP - 1) / STEP * STEP, dim, [&](int key, int64_t d, __m512i left, __m512i right) {
            bf16* tile = to + key / DEEP * DEEP * padded + d * DEEP + key % DEEP / 2 * DEEP;
            store(tile, left);
            store(tile + TILE, right);
        });
    }

    // scores[ROWS][BLOCK] = queries x keys, for `count` keys rounded up to STEP.
    template <class Ahead>
    static void score(int, const bf16* queries, const bf16* keys, int count, int64_t padded, float* scores, Ahead& ahead) {
        const int64_t row = padded * sizeof(bf16), group = padded / DEEP * TILE, line = BLOCK * sizeof(float);
        for (int j = 0; j < count; j += STEP, keys += 4 * group, scores += STEP) {
            ahead.fetch();
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int64_t d = 0; d < padded / DEEP; d++) {
                const bf16* k = keys + d * TILE;
                _tile_loadd(4, queries + d * DEEP, row);
                _tile_loadd(5, k, 64);
                _tile_loadd(6, k + group, 64);
                _tile_loadd(7, k + 2 * group, 64);
                _tile_dpbf16ps(0, 4, 5);
                _tile_dpbf16ps(1, 4, 6);
                _tile_loadd(5, k + 3 * group, 64);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 4, 5);
            }
            _tile_stored(0, scores, line);
            _tile_stored(1, scores + EDGE, line);
            _tile_stored(2, scores + 2 * EDGE, line);
            _tile_stored(3, scores + 3 * EDGE, line);
        }
    }

    // sums[ROWS][padded] += shares[ROWS][BLOCK] x values, for `count` keys rounded up to DEEP.
    template <class Ahead>
    static void weigh(int, const bf16* shares, const bf16* values, int count, int64_t padded, float* sums, Ahead& ahead) {
        int64_t d = 0;
        for (; d + 4 * EDGE <= padded; d += 4 * EDGE) add<4>(shares, values + d * DEEP, count, padded, sums + d, ahead);
        for (; d < padded; d += 2 * EDGE) add<2>(shares, values + d * DEEP, count, padded, sums + d, ahead);
    }

  private:
    template <int N, class Ahead>
    static void add(const bf16* shares, const bf16* values, int count, int64_t padded, float* sums, Ahead& ahead) {
        const int64_t row = BLOCK * sizeof(bf16), line = padded * sizeof(float);
        _tile_loadd(0, sums, line);
        _tile_loadd(1, sums + EDGE, line);
        if constexpr (N == 4) { _tile_loadd(2, sums + 2 * EDGE, line); _tile_loadd(3, sums + 3 * EDGE, line); }
        for (int k = 0; k < count; k += DEEP, values += padded * DEEP) {
            ahead.fetch();
            _tile_loadd(4, shares + k, row);
            _tile_loadd(5, values, 64);
            _tile_loadd(6, values + TILE, 64);
            _tile_dpbf16ps(0, 4, 5);
            _tile_dpbf16ps(1, 4, 6);
            if constexpr (N == 4) {
                _tile_loadd(7, values + 2 * TILE, 64);
                _tile_loadd(5, values + 3 * TILE, 64);
                _tile_dpbf16ps(2, 4, 7);
                _tile_dpbf16ps(3, 4, 5);
            }
        }
        _tile_stored(0, sums, line);
        _tile_stored(1, sums + EDGE, line);
        if constexpr (N == 4) { _tile_stored(2, sums + 2 * EDGE, line); _tile_stored(3, sums + 3 * EDGE, line); }
    }
};

#endif

// What multiplies bfloat16 here. AMD's dot products run at twice the rate of float32, Intel's at half of it.
Unit unit() {
#ifdef QUIRE_MATRIX
    if (matrix_unit()) return TILES;
#endif
#if defined(QUIRE_DOTS) && defined(QUIRE_DOTS_ONLY)
    return DOTS;
#elif defined(QUIRE_DOTS)
    return __builtin_cpu_is("amd") ? DOTS : VECTORS;
#else
    return VECTORS;
#endif
}

}  // namespace
