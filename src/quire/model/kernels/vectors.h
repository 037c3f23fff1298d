// Vectors of float32, the dtypes that numbers are stored in, and the inner loop of every product.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 12;
#elif defined(__aarch64__)
constexpr int LANES = 4, ROWS = 8;  // of 12 rows the compiler keeps some sums in memory
#else
constexpr int LANES = 8, ROWS = 6;
#endif
constexpr int WIDE = 2 * LANES;  // columns of a tile
constexpr int BLOCK = 64;         // keys that vectors attend to at once: with their values 32 KB at 64 dimensions, for the nearest memory
constexpr float LOG2E = 1.4426950408889634f;
constexpr float NONE = -std::numeric_limits<float>::infinity();

typedef float vf __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2), aligned(2)));
typedef int8_t vb __attribute__((vector_size(LANES), aligned(1)));
#if defined(__aarch64__)
typedef __fp16 half;  // what every compiler for ARM knows, and takes for float32 in arithmetic
#else
typedef _Float16 half;
#endif
typedef half vx __attribute__((vector_size(LANES * 2), aligned(2)));

struct bf16 { uint16_t bits; };
struct f16 { half value; };

template <class V> V load(const void* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
template <class V> void store(void* p, V v) { std::memcpy(p, &v, sizeof v); }

// ---- dtypes: LANES numbers from memory to float32 and back, and one at a time -------------------------------------

vf widen(const float* p) { return load<vf>(p); }
#if defined(__aarch64__)  // whose compilers convert vectors of 64 bits number by number
vf widen(const bf16* p) { return (vf)vshll_n_u16((uint16x4_t)load<vh>(p), 16); }
vf widen(const f16* p) { return (vf)vcvt_f32_f16((float16x4_t)load<vx>(p)); }
vx halved(vf x) { return (vx)vcvt_f16_f32((float32x4_t)x); }
#else
vf widen(const bf16* p) { return (vf)(__builtin_convertvector(load<vh>(p), vu) << 16); }
vf widen(const f16* p) { return __builtin_convertvector(load<vx>(p), vf); }
vx halved(vf x) { return __builtin_convertvector(x, vx); }
#endif

float number(float x) { return x; }
float number(bf16 x) { uint32_t u = uint32_t(x.bits) << 16; float f; std::memcpy(&f, &u, 4); return f; }
float number(f16 x) { return float(x.value); }

void narrow(float x, float& out) { out = x; }
void narrow(float x, f16& out) { out.value = half(x); }
void narrow(float x, bf16& out) {  // to nearest, ties to even; a NaN stays one
    uint32_t u;
    std::memcpy(&u, &x, 4);
    out.bits = x != x ? 0x7fc0 : uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// x in the precision of T, still in float32.
template <class T> float rounded(float x) { T stored; narrow(x, stored); return number(stored); }
template <class T> vf rounded(vf x) {
    if constexpr (std::is_same_v<T, float>) return x;
    else if constexpr (std::is_same_v<T, f16>) { const vx stored = halved(x); return widen(reinterpret_cast<const f16*>(&stored)); }
    else {
        const vu u = (vu)x;
        return x == x ? (vf)((u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000u) : x;
    }
}

// LANES numbers from float32 to memory.
void narrow(vf x, float* to) { store(to, x); }
void narrow(vf x, f16* to) { store(to, halved(x)); }
void narrow(vf x, bf16* to) {
    const vu u = (vu)x, up = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    store(to, __builtin_convertvector((vu)(x == x ? (vi)up : vi{} + 0x7fc0), vh));
}

// ---- weights: a panel holds WIDE output columns, step by step ------------------------------------------------------

struct PairedBf16 { uint32_t bits; };  // low half: column i; high half: column LANES + i
struct Int8 { int8_t value; };

struct Two { vf left, right; };  // vectors of columns

Two columns(const float* p) { return {load<vf>(p), load<vf>(p + LANES)}; }
Two columns(const f16* p) { return {widen(p), widen(p + LANES)}; }
Two columns(const PairedBf16* p) {
    const vu u = load<vu>(p);
    return {(vf)(u << 16), (vf)(u & 0xffff0000u)};
}
Two columns(const Int8* p) {
    return {__builtin_convertvector(load<vb>(p), vf), __builtin_convertvector(load<vb>(p + LANES), vf)};
}
template <class W> constexpr int64_t step_size() { return WIDE; }
template <> constexpr int64_t step_size<PairedBf16>() { return LANES; }

// ---- the inner loop ------------------------------------------------------------------------------------------------

vf plus(vf sum, float a, vf b) { return sum + a * b; }

// c[rows][WIDE] += a[rows][steps] x b[steps][WIDE]; a's element (row, step) is a[row * ROW + step * STEP].
template <int N, int ROW, int STEP, class A, class B>
void tile(const A* __restrict a, const B* __restrict b, int64_t b_step, int64_t steps, float* __restrict c,
          int64_t c_row, bool fresh) {
    vf left[N], right[N];
    for (int r = 0; r < N; r++) {
        left[r] = fresh ? vf{} : load<vf>(c + r * c_row);
        right[r] = fresh ? vf{} : load<vf>(c + r * c_row + LANES);
    }
    for (int64_t k = 0; k < steps; k++, b += b_step, a += STEP) {
        const auto two = columns(b);
#pragma GCC unroll 16
        for (int r = 0; r < N; r++) {
            left[r] = plus(left[r], a[r * ROW], two.left);
            right[r] = plus(right[r], a[r * ROW], two.right);
        }
    }
    for (int r = 0; r < N; r++) {
        store(c + r * c_row, left[r]);
        store(c + r * c_row + LANES, right[r]);
    }
}

// The same for 1..ROWS rows known at run time; a is [rows][ROW], or [steps][rows] if ROW is PACKED.
constexpr int PACKED = 0;
template <int ROW, class A, class B, int N = ROWS>
void tiles(int rows, const A* a, const B* b, int64_t b_step, int64_t steps, float* c, int64_t c_row, bool fresh) {
    if constexpr (N > 0) {
        if (rows == N) tile<N, ROW == PACKED ? 1 : ROW, ROW == PACKED ? N : 1>(a, b, b_step, steps, c, c_row, fresh);
        else tiles<ROW, A, B, N - 1>(rows, a, b, b_step, steps, c, c_row, fresh);
    }
}

// ---- functions of vectors ---------------------------------------------------------------------------------------------

vf exp2_of(vf x) {  // 2^x for x <= 0, relative error below 2e-7; 0 below 2^-126
    const vf floor = x < -126.0f ? vf{} - 126.0f : x;
    const vf shifted = floor + 12582912.0f;  // 1.5 x 2^23: rounds to an integer in the low bits
    const vf f = floor - (shifted - 12582912.0f);
    vf y = vf{} + 1.5403530e-4f;
    y = y * f + 1.3333558e-3f;
    y = y * f + 9.6181291e-3f;
    y = y * f + 5.5504109e-2f;
    y = y * f + 2.4022651e-1f;
    y = y * f + 6.9314718e-1f;
    y = y * f + 1.0f;
    const vf power = (vf)((vi)y + ((vi)shifted << 23));
    return x < -126.0f ? vf{} : power;
}

// The largest lane and the sum of all, folding halves onto each other: the same order every time.
template <int STEP = LANES / 2> inline __attribute__((always_inline)) float largest(vf v) {
    if constexpr (STEP == 0) return v[0];
    else {
        vi other;
        for (int i = 0; i < LANES; i++) other[i] = i ^ STEP;
        const vf w = __builtin_shuffle(v, other);
        return largest<STEP / 2>(v > w ? v : w);
    }
}
template <int STEP = LANES / 2> inline __attribute__((always_inline)) float total(vf v) {
    if constexpr (STEP == 0) return v[0];
    else {
        vi other;
        for (int i = 0; i < LANES; i++) other[i] = i ^ STEP;
        return total<STEP / 2>(v + __builtin_shuffle(v, other));
    }
}

bool any(vi lanes) {  // -1 or 0 each
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)lanes, (__m512i)lanes);
#else
    int32_t found = 0;
    for (int i = 0; i < LANES; i++) found |= lanes[i];
    return found;
#endif
}

template <class V, int STEP = 1> inline __attribute__((always_inline)) void transpose(V (&v)[LANES]) {  // LANES x LANES numbers of 32 bits
    if constexpr (STEP < LANES) {
        vi low, high;
        for (int i = 0; i < LANES; i++) {
            low[i] = i & STEP ? LANES + i - STEP : i;
            high[i] = i & STEP ? LANES + i : i + STEP;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & STEP)) {
                const V a = v[i], b = v[i + STEP];
                v[i] = __builtin_shuffle(a, b, low);
                v[i + STEP] = __builtin_shuffle(a, b, high);
            }
        transpose<V, STEP * 2>(v);
    }
}

}  // namespace
