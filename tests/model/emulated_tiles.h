// Intel AMX by AVX512_BF16: so that the code for the matrix unit is tested on processors that have none.
#pragma once

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps

namespace emulated {

inline thread_local __m512 tiles[8][16];

inline void load(int tile, const void* from, int64_t stride) {
    for (int row = 0; row < 16; row++) tiles[tile][row] = _mm512_loadu_ps(static_cast<const char*>(from) + row * stride);
}

inline void store(int tile, void* to, int64_t stride) {
    for (int row = 0; row < 16; row++) _mm512_storeu_ps(static_cast<char*>(to) + row * stride, tiles[tile][row]);
}

inline void multiply(int sums, int a, int b) {
    for (int row = 0; row < 16; row++) {
        uint32_t pairs[16];
        std::memcpy(pairs, &tiles[a][row], sizeof pairs);
        for (int k = 0; k < 16; k++)
            tiles[sums][row] = _mm512_dpbf16_ps(tiles[sums][row], (__m512bh)_mm512_set1_epi32(int(pairs[k])), (__m512bh)tiles[b][k]);
    }
}

}  // namespace emulated

#define __AMX_BF16__ 1
#define __AMX_TILE__ 1
#define syscall(...) 0  // the system grants the tiles
#define _tile_loadconfig(shape) static_cast<void>(shape)
#define _tile_release() static_cast<void>(0)
#define _tile_zero(tile) std::memset(emulated::tiles[tile], 0, sizeof emulated::tiles[tile])
#define _tile_loadd(tile, from, stride) emulated::load(tile, from, stride)
#define _tile_stored(tile, to, stride) emulated::store(tile, to, stride)
#define _tile_dpbf16ps(sums, a, b) emulated::multiply(sums, a, b)
