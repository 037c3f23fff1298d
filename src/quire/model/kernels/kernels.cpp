// Linear layers and attention over shared segments for CPUs with vector units, in float32 arithmetic on stored dtypes.
//
// Two properties carry everything else:
//
// * One inner loop. Every product here (a linear layer, query times keys, probabilities times values) is a tile of
//   ROWS x 2 vectors held in registers, to which one multiply-add per (row, step) is applied, `step` ascending. With
//   ROWS = 12 and 16 lanes that is 24 accumulators, enough to keep two fused multiply-add units busy (Goto and
//   van de Geijn, "Anatomy of high-performance matrix multiplication", 2008).
// * One order. A number of the result is the same chain of additions whatever else is in the batch, however many
//   threads run and however a prompt is cut into chunks. Keys are taken in blocks of BLOCK and splits of SPLIT counted
//   from the start of their segment; a masked key adds an exact zero. So a request's bits do not depend on its company.
//
// Softmax is computed block by block with a running maximum (Milakov and Gimelshein, arXiv 1805.02867), partial results
// are merged by their maxima and sums as in FlashAttention (arXiv 2205.14135) and Hydragen (arXiv 2402.05099).

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>
#include <type_traits>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 12;
#else
constexpr int LANES = 8, ROWS = 6;
#endif
constexpr int WIDE = 2 * LANES;  // columns of a tile
constexpr int BLOCK = 64;         // keys packed at once: with their values 32 KB at 64 dimensions, for the nearest memory
constexpr int SPLIT = 1024;      // keys of one partial result
constexpr int ROW_CHUNK = 32 * ROWS;  // query rows of one partial result
constexpr int DEPTH = 1024;      // steps of a linear layer between two visits of the same accumulator
constexpr float LOG2E = 1.4426950408889634f;
constexpr float NONE = -std::numeric_limits<float>::infinity();

typedef float vf __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2), aligned(2)));
typedef int8_t vb __attribute__((vector_size(LANES), aligned(1)));
typedef _Float16 vx __attribute__((vector_size(LANES * 2), aligned(2)));

struct bf16 { uint16_t bits; };
struct f16 { _Float16 value; };

template <class V> V load(const void* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
template <class V> void store(void* p, V v) { std::memcpy(p, &v, sizeof v); }

// ---- dtypes: LANES numbers from memory to float32 and back, and one at a time -------------------------------------

vf widen(const float* p) { return load<vf>(p); }
vf widen(const bf16* p) { return (vf)(__builtin_convertvector(load<vh>(p), vu) << 16); }
vf widen(const f16* p) { return __builtin_convertvector(load<vx>(p), vf); }

float number(float x) { return x; }
float number(bf16 x) { uint32_t u = uint32_t(x.bits) << 16; float f; std::memcpy(&f, &u, 4); return f; }
float number(f16 x) { return float(x.value); }

void narrow(float x, float& out) { out = x; }
void narrow(float x, f16& out) { out.value = _Float16(x); }
void narrow(float x, bf16& out) {  // to nearest, ties to even; a NaN stays one
    uint32_t u;
    std::memcpy(&u, &x, 4);
    out.bits = x != x ? 0x7fc0 : uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// ---- weights: a panel holds WIDE output columns, step by step ------------------------------------------------------

struct PairedBf16 { uint32_t bits; };  // low half: column i; high half: column LANES + i
struct Int8 { int8_t value; };

void columns(const float* p, vf& left, vf& right) { left = load<vf>(p); right = load<vf>(p + LANES); }
void columns(const f16* p, vf& left, vf& right) { left = widen(p); right = widen(p + LANES); }
void columns(const PairedBf16* p, vf& left, vf& right) {
    vu u = load<vu>(p);
    left = (vf)(u << 16);
    right = (vf)(u & 0xffff0000u);
}
void columns(const Int8* p, vf& left, vf& right) {
    left = __builtin_convertvector(load<vb>(p), vf);
    right = __builtin_convertvector(load<vb>(p + LANES), vf);
}
template <class W> constexpr int64_t step_size() { return WIDE; }
template <> constexpr int64_t step_size<PairedBf16>() { return LANES; }

// ---- the inner loop ------------------------------------------------------------------------------------------------

// c[rows][WIDE] += a[rows][steps] x b[steps][WIDE]; a's element (row, step) is a[row * ROW + step * STEP].
template <int N, int ROW, int STEP, class B>
void tile(const float* __restrict a, const B* __restrict b, int64_t b_step, int64_t steps, float* __restrict c,
          int64_t c_row, bool fresh) {
    vf left[N], right[N];
    for (int r = 0; r < N; r++) {
        left[r] = fresh ? vf{} : load<vf>(c + r * c_row);
        right[r] = fresh ? vf{} : load<vf>(c + r * c_row + LANES);
    }
    for (int64_t k = 0; k < steps; k++, b += b_step, a += STEP) {
        vf b0, b1;
        columns(b, b0, b1);
#pragma GCC unroll 16
        for (int r = 0; r < N; r++) {
            left[r] += a[r * ROW] * b0;
            right[r] += a[r * ROW] * b1;
        }
    }
    for (int r = 0; r < N; r++) {
        store(c + r * c_row, left[r]);
        store(c + r * c_row + LANES, right[r]);
    }
}

// The same for 1..ROWS rows known at run time; `packed`: a is [steps][rows], else [rows][BLOCK].
template <bool PACKED, class B, int N = ROWS>
void tiles(int rows, const float* a, const B* b, int64_t b_step, int64_t steps, float* c, int64_t c_row, bool fresh) {
    if constexpr (N > 0) {
        if (rows == N) tile<N, PACKED ? 1 : BLOCK, PACKED ? N : 1>(a, b, b_step, steps, c, c_row, fresh);
        else tiles<PACKED, B, N - 1>(rows, a, b, b_step, steps, c, c_row, fresh);
    }
}

// ---- memory that a thread keeps ------------------------------------------------------------------------------------

struct Scratch {
    float* data = nullptr;
    size_t size = 0;
    float* need(size_t floats) {
        if (floats > size) {
            std::free(data);
            size = (floats + 1023) / 1024 * 1024;
            data = static_cast<float*>(std::aligned_alloc(64, size * sizeof(float)));
            if (!data) std::abort();
        }
        return data;
    }
    ~Scratch() { std::free(data); }
};

// ---- threads --------------------------------------------------------------------------------------------------------

// Workers that help the caller through numbered items. The caller waits for items begun, never for workers: one that
// the system has put aside costs nothing, where a barrier would wait for its next turn, milliseconds later.
class Team {
  public:
    template <class F> void each(int64_t count, int64_t threads, F&& item) {
        std::unique_lock<std::mutex> alone(calling_, std::try_to_lock);
        if (!alone || threads < 2 || count < 2) {
            for (int64_t i = 0; i < count; i++) item(i);
            return;
        }
        hire(std::min(threads, count) - 1);
        context_ = &item;
        run_ = [](void* context, int64_t i) { (*static_cast<std::remove_reference_t<F>*>(context))(i); };
        count_.store(count, std::memory_order_relaxed);
        helpers_.store(std::min(threads, count) - 1, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
        const uint64_t job = (ticket_.load() >> 32) + 1;
        ticket_.store(job << 32);
        if (sleeping_.load()) {
            std::lock_guard<std::mutex> lock(bed_);
            woken_.notify_all();
        }
        work(job);
        for (int spins = 0; done_.load(std::memory_order_acquire) < count; spins++) pause(spins);
    }

  private:
    static constexpr int SPINS = 20000;  // about the time between two kernels of a step, several times over

    static void pause(int spins) {
        if (spins % 4096 == 4095) std::this_thread::yield();
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
    }

    // Takes items of `job` until there are none. The ticket names job and item together, so that a worker that was away
    // for a while cannot take an item of another job for one of this.
    void work(uint64_t job) {
        for (uint64_t ticket = ticket_.load(); ticket >> 32 == job;) {
            const int64_t i = ticket & 0xffffffffu;
            if (i >= count_.load(std::memory_order_relaxed)) return;
            if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
            run_(context_, i);
            done_.fetch_add(1, std::memory_order_release);
            ticket = ticket_.load();
        }
    }

    void hire(int64_t wanted) {
        for (; hired_ < wanted; hired_++) std::thread([this, me = hired_] { serve(me); }).detach();
    }

    void serve(int64_t me) {
        uint64_t last = 0;
        for (int spins = 0;; spins++) {
            const uint64_t job = ticket_.load() >> 32;
            if (job != last) {
                last = job;
                spins = 0;
                if (me < helpers_.load(std::memory_order_relaxed)) work(job);
            } else if (spins < SPINS) {
                pause(spins);
            } else {
                std::unique_lock<std::mutex> lock(bed_);
                sleeping_++;
                woken_.wait(lock, [&] { return ticket_.load() >> 32 != last; });
                sleeping_--;
            }
        }
    }

    std::mutex calling_, bed_;
    std::condition_variable woken_;
    std::atomic<uint64_t> ticket_{0};  // job << 32 | next item
    std::atomic<int64_t> count_{0}, helpers_{0}, done_{0};
    std::atomic<int> sleeping_{0};
    void* context_ = nullptr;
    void (*run_)(void*, int64_t) = nullptr;
    int64_t hired_ = 0;
};

Team& team() {
    static Team* everyone = new Team;  // never destroyed: its threads outlive the end of main
    return *everyone;
}

// ---- linear layers -------------------------------------------------------------------------------------------------

struct Cut { int64_t count, rows; };  // `total` rows in `count` tiles of at most `rows`, as even as can be
Cut cut(int64_t total) {
    int64_t count = (total + ROWS - 1) / ROWS;
    return {count, (total + count - 1) / count};
}

template <class T>
void pack_rows(const T* x, int64_t x_row, int64_t steps, int rows, float* to) {  // [rows][steps] -> [steps][rows]
    for (int r = 0; r < rows; r++)
        for (int64_t k = 0; k < steps; k++) to[k * rows + r] = number(x[r * x_row + k]);
}

// out[m][n] = x[m] . weight[n] (+ bias[n]), times scale[n] for int8.
template <class W, class T>
void linear(const W* weight, const float* scale, const T* bias, const T* x, int64_t x_row, T* out, int64_t out_row,
            int64_t m, int64_t n, int64_t depth, int threads) {
    static thread_local Scratch rows_scratch;
    const Cut rows = cut(m);
    float* a = rows_scratch.need(m * depth);
    const auto height = [&](int64_t t) { return std::max<int64_t>(0, std::min(rows.rows, m - t * rows.rows)); };
    team().each(rows.count, m * depth < 1 << 15 ? 1 : threads, [&](int64_t t) {
        const int64_t first = t * rows.rows;
        pack_rows(x + first * x_row, x_row, depth, int(height(t)), a + first * depth);
    });
    team().each((n + WIDE - 1) / WIDE, threads, [&](int64_t p) {
        static thread_local Scratch scratch;
        float* c = scratch.need(m * WIDE + DEPTH * WIDE);
        float* wide = c + m * WIDE;
        const W* w = weight + p * depth * step_size<W>();
        if (rows.count == 1) {
            tiles<true>(int(m), a, w, step_size<W>(), depth, c, WIDE, true);
        } else {
            for (int64_t k = 0; k < depth; k += DEPTH) {
                const int64_t steps = std::min<int64_t>(DEPTH, depth - k);
                for (int64_t i = 0; i < steps; i++) {
                    vf left, right;
                    columns(w + (k + i) * step_size<W>(), left, right);
                    store(wide + i * WIDE, left);
                    store(wide + i * WIDE + LANES, right);
                }
                for (int64_t t = 0; t < rows.count; t++) {
                    const int64_t first = t * rows.rows, here = height(t);
                    tiles<true>(int(here), a + first * depth + k * here, wide, WIDE, steps, c + first * WIDE, WIDE, k == 0);
                }
            }
        }
        const int64_t here = std::min<int64_t>(WIDE, n - p * WIDE);
        for (int64_t r = 0; r < m; r++)
            for (int64_t j = 0; j < here; j++) {
                float value = c[r * WIDE + j];
                if (scale) value *= scale[p * WIDE + j];
                if (bias) value += number(bias[p * WIDE + j]);
                narrow(value, out[r * out_row + p * WIDE + j]);
            }
    });
}

template <class T, class W, class Put>
void pack(const T* weight, W* to, int64_t n, int64_t depth, int threads, Put put) {
    team().each((n + WIDE - 1) / WIDE, threads, [&](int64_t p) {
        for (int64_t k = 0; k < depth; k++)
            for (int j = 0; j < WIDE; j++) {
                const int64_t column = p * WIDE + j;
                put(to + (p * depth + k) * step_size<W>(), j, column < n ? weight + column * depth + k : nullptr);
            }
    });
}

// ---- attention -----------------------------------------------------------------------------------------------------

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
template <int STEP = LANES / 2> float largest(vf v) {
    if constexpr (STEP == 0) return v[0];
    else {
        vi other;
        for (int i = 0; i < LANES; i++) other[i] = i ^ STEP;
        const vf w = __builtin_shuffle(v, other);
        return largest<STEP / 2>(v > w ? v : w);
    }
}
template <int STEP = LANES / 2> float total(vf v) {
    if constexpr (STEP == 0) return v[0];
    else {
        vi other;
        for (int i = 0; i < LANES; i++) other[i] = i ^ STEP;
        return total<STEP / 2>(v + __builtin_shuffle(v, other));
    }
}

template <class V, int STEP = 1> void transpose(V (&v)[LANES]) {  // LANES x LANES numbers of 32 bits
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

// keys [count][dim] -> float32 [dim][BLOCK], zeros behind `count` up to a multiple of WIDE.
void pack_keys(const bf16* keys, int count, int dim, float* to) {
    const int until = (count + WIDE - 1) / WIDE * WIDE;
    int d = 0;
    for (; d + WIDE <= dim; d += WIDE)
        for (int first = 0; first < until; first += LANES) {
            vu v[LANES];
            for (int i = 0; i < LANES; i++) v[i] = first + i < count ? load<vu>(keys + int64_t(first + i) * dim + d) : vu{};
            transpose(v);
            for (int i = 0; i < LANES; i++) {
                store(to + (d + 2 * i) * BLOCK + first, (vf)(v[i] << 16));
                store(to + (d + 2 * i + 1) * BLOCK + first, (vf)(v[i] & 0xffff0000u));
            }
        }
    for (; d < dim; d++)
        for (int i = 0; i < until; i++) to[d * BLOCK + i] = i < count ? number(keys[int64_t(i) * dim + d]) : 0.0f;
}
template <class T> void pack_keys(const T* keys, int count, int dim, float* to) {
    const int until = (count + WIDE - 1) / WIDE * WIDE;
    int d = 0;
    for (; d + LANES <= dim; d += LANES)
        for (int first = 0; first < until; first += LANES) {
            vf v[LANES];
            for (int i = 0; i < LANES; i++) v[i] = first + i < count ? widen(keys + int64_t(first + i) * dim + d) : vf{};
            transpose(v);
            for (int i = 0; i < LANES; i++) store(to + (d + i) * BLOCK + first, v[i]);
        }
    for (; d < dim; d++)
        for (int i = 0; i < until; i++) to[d * BLOCK + i] = i < count ? number(keys[int64_t(i) * dim + d]) : 0.0f;
}

template <class T> void fetch(const T* from, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(from + i, 0, 2);
}

// values [count][dim] -> float32 [count][padded], zeros from dim on.
template <class T> void pack_values(const T* values, int count, int dim, int padded, float* to) {
    for (int i = 0; i < count; i++, values += dim, to += padded) {
        int d = 0;
        for (; d + LANES <= dim; d += LANES) store(to + d, widen(values + d));
        for (; d < padded; d++) to[d] = d < dim ? number(values[d]) : 0.0f;
    }
}

}  // namespace

extern "C" {

// A range of keys and the tokens of the batch that attend to it. Tokens `first..last-1`; `before` < 0: each sees every
// key; else the range ends with the tokens' own keys, and token first + i sees keys 0 .. before + i.
struct Range {
    int64_t first, last, keys, before;
    int64_t head_stride;  // numbers between two heads of the range's keys (and values)
    int64_t part;         // the first of its partial results; it has ceil(keys / SPLIT)
    int64_t table;        // its row in the table of addresses
};

struct Work { int32_t range, head, split, chunk; };

struct Attention {
    int64_t tokens, heads, kv_heads, dim, dtype, threads;
    int64_t ranges, works, layers;
    float scale;
    const Range* range;
    const Work* work;
    void* const* addresses;  // [table row][layer][2]: keys, values
    const int64_t* parts;    // [tokens + 1] with offsets into part_of
    const int64_t* part_of;  // partial results of each token, in order
    float* partial;          // [part][heads][tokens][padded dim], unnormalized
    float* weight;           // [part][heads][tokens][2]: maximum in powers of two, sum
};

}  // extern "C"

namespace {

template <class T> struct Step {  // one layer of one forward pass
    const Attention& plan;
    int64_t layer, padded;
    const T *q, *k, *v;  // [token][head][dim] by strides
    int64_t q_token, q_head, k_token, k_head, v_token, v_head;
    T* out;  // [token][heads * dim]

    const T* keys(const Range& r) const { return static_cast<const T*>(plan.addresses[(r.table * plan.layers + layer) * 2]); }
    const T* values(const Range& r) const {
        return static_cast<const T*>(plan.addresses[(r.table * plan.layers + layer) * 2 + 1]);
    }

    void keep(const Range& r) const {  // store the new tokens' keys and values behind their request's earlier ones
        const int64_t size = plan.dim * sizeof(T);
        for (int64_t h = 0; h < plan.kv_heads; h++)
            for (int64_t t = r.first; t < r.last; t++) {
                const int64_t at = h * r.head_stride + (r.before + t - r.first) * plan.dim;
                std::memcpy(const_cast<T*>(keys(r)) + at, k + t * k_token + h * k_head, size);
                std::memcpy(const_cast<T*>(values(r)) + at, v + t * v_token + h * v_head, size);
            }
    }

    // One partial result: the rows of one chunk of one range, one key-value head, one split of keys.
    void attend(const Work& w, Scratch& scratch) const {
        const Range& range = plan.range[w.range];
        const int64_t group = plan.heads / plan.kv_heads, dim = plan.dim;
        const int64_t row0 = int64_t(w.chunk) * ROW_CHUNK;
        const int64_t rows = std::min<int64_t>(ROW_CHUNK, (range.last - range.first) * group - row0);
        const int64_t from = int64_t(w.split) * SPLIT;
        int64_t until = std::min(range.keys, from + SPLIT);
        if (range.before >= 0) until = std::min(until, range.before + (row0 + rows - 1) / group + 1);

        // Vectors start at multiples of their size: whatever may be of another length comes last.
        float* packed_keys = scratch.need(BLOCK * (dim + padded + ROWS) + rows * (padded + dim + 2));
        float* packed_values = packed_keys + BLOCK * dim;
        float* scores = packed_values + BLOCK * padded;
        float* sums = scores + BLOCK * ROWS;
        float* queries = sums + rows * padded;
        float* maxima = queries + rows * dim;
        float* totals = maxima + rows;

        const float scale = plan.scale * LOG2E;
        for (int64_t first = 0; first < rows; first += ROWS) {
            const int here = int(std::min<int64_t>(ROWS, rows - first));
            for (int r = 0; r < here; r++) {
                const int64_t row = row0 + first + r;
                const T* source = q + (range.first + row / group) * q_token + (w.head * group + row % group) * q_head;
                for (int64_t d = 0; d < dim; d++) queries[first * dim + d * here + r] = number(source[d]) * scale;
            }
        }
        std::fill(sums, sums + rows * padded, 0.0f);
        std::fill(maxima, maxima + rows, NONE);
        std::fill(totals, totals + rows, 0.0f);

        const int64_t head = w.head * range.head_stride;
        for (int64_t block = from; block < until; block += BLOCK) {
            const int count = int(std::min<int64_t>(BLOCK, until - block));
            if (block + BLOCK < until) {  // the processor's own prefetching stops at every page
                const int64_t next = std::min<int64_t>(BLOCK, until - block - BLOCK) * dim;
                fetch(keys(range) + head + (block + BLOCK) * dim, next);
                fetch(values(range) + head + (block + BLOCK) * dim, next);
            }
            pack_keys(keys(range) + head + block * dim, count, int(dim), packed_keys);
            pack_values(values(range) + head + block * dim, count, int(dim), int(padded), packed_values);
            for (int64_t first = 0; first < rows; first += ROWS) {
                const int here = int(std::min<int64_t>(ROWS, rows - first));
                for (int j = 0; j < count; j += WIDE)
                    tiles<true>(here, queries + first * dim, packed_keys + j, BLOCK, dim, scores + j, BLOCK, true);
                for (int r = 0; r < here; r++) {
                    int64_t seen = count;
                    if (range.before >= 0) seen = std::min<int64_t>(count, range.before + (row0 + first + r) / group + 1 - block);
                    soften(scores + r * BLOCK, seen, count, maxima[first + r], totals[first + r], sums + (first + r) * padded);
                }
                for (int64_t d = 0; d < padded; d += WIDE)
                    tiles<false>(here, scores, packed_values + d, padded, count, sums + first * padded + d, padded, false);
            }
        }
        for (int64_t r = 0; r < rows; r++) {
            const int64_t token = range.first + (row0 + r) / group, h = w.head * group + (row0 + r) % group;
            const int64_t at = ((range.part + w.split) * plan.heads + h) * plan.tokens + token;
            std::memcpy(plan.partial + at * padded, sums + r * padded, padded * sizeof(float));
            plan.weight[2 * at] = maxima[r];
            plan.weight[2 * at + 1] = totals[r];
        }
    }

    // Scores of one row to probabilities relative to the running maximum; what was summed before is scaled to it.
    void soften(float* row, int64_t seen, int count, float& maximum, float& sum, float* sums) const {
        const int until = (count + LANES - 1) / LANES * LANES;
        for (int64_t j = std::max<int64_t>(seen, 0); j < until; j++) row[j] = NONE;
        vf highest = vf{} + NONE;
        for (int j = 0; j < until; j += LANES) {
            const vf x = load<vf>(row + j);
            highest = x > highest ? x : highest;
        }
        const float now = std::max(maximum, largest(highest));
        if (now == NONE) {  // nothing seen yet
            for (int j = 0; j < until; j++) row[j] = 0.0f;
            return;
        }
        vf added = vf{};
        for (int j = 0; j < until; j += LANES) {
            const vf p = exp2_of(load<vf>(row + j) - now);
            store(row + j, p);
            added += p;
        }
        if (now != maximum) {
            const float shrink = maximum == NONE ? 0.0f : std::exp2(maximum - now);
            sum *= shrink;
            for (int64_t d = 0; d < padded; d += LANES) store(sums + d, load<vf>(sums + d) * shrink);
            maximum = now;
        }
        sum += total(added);
    }

    void merge(int64_t token, int64_t head) const {
        const int64_t *part = plan.part_of + plan.parts[token], *end = plan.part_of + plan.parts[token + 1];
        const auto at = [&](int64_t p) { return (p * plan.heads + head) * plan.tokens + token; };
        float maximum = NONE, sum = 0.0f;
        for (auto p = part; p < end; p++) maximum = std::max(maximum, plan.weight[2 * at(*p)]);
        vf merged[256 / LANES];
        for (int64_t d = 0; d < padded; d += LANES) merged[d / LANES] = vf{};
        for (auto p = part; p < end; p++) {
            const float share = std::exp2(plan.weight[2 * at(*p)] - maximum);
            sum += plan.weight[2 * at(*p) + 1] * share;
            const float* partial = plan.partial + at(*p) * padded;
            for (int64_t d = 0; d < padded; d += LANES) merged[d / LANES] += load<vf>(partial + d) * share;
        }
        T* to = out + (token * plan.heads + head) * plan.dim;
        for (int64_t d = 0; d < plan.dim; d++) narrow(merged[d / LANES][d % LANES] / sum, to[d]);
    }

    void run() const {
        const int64_t fresh = plan.tokens * plan.kv_heads * plan.dim;
        team().each(plan.ranges, fresh < 1 << 15 ? 1 : plan.threads, [&](int64_t i) {
            if (plan.range[i].before >= 0) keep(plan.range[i]);
        });
        team().each(plan.works, plan.threads, [&](int64_t i) {
            static thread_local Scratch scratch;
            attend(plan.work[i], scratch);
        });
        const int64_t rows = plan.tokens * plan.heads, some = 32;
        team().each((rows + some - 1) / some, plan.threads, [&](int64_t i) {
            for (int64_t row = i * some; row < std::min(rows, (i + 1) * some); row++) merge(row / plan.heads, row % plan.heads);
        });
    }
};

template <class T> void attend(const Attention& plan, int64_t layer, const void* q, const void* k, const void* v,
                               const int64_t* strides, void* out) {
    const int64_t padded = (plan.dim + WIDE - 1) / WIDE * WIDE;
    Step<T>{plan, layer, padded, static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
            strides[0], strides[1], strides[2], strides[3], strides[4], strides[5], static_cast<T*>(out)}.run();
}

// out = weight * x / sqrt(mean(x^2) + epsilon), rounded where transformers rounds: after the division, and at the end.
template <class T> void norm(const T* x, int64_t x_row, const T* weight, float epsilon, T* out, int64_t rows, int64_t dim) {
    for (int64_t r = 0; r < rows; r++, x += x_row, out += dim) {
        vf squares = vf{};
        float rest = 0.0f;
        int64_t d = 0;
        for (; d + LANES <= dim; d += LANES) {
            const vf v = widen(x + d);
            squares += v * v;
        }
        for (; d < dim; d++) rest += number(x[d]) * number(x[d]);
        const float scale = 1.0f / std::sqrt((total(squares) + rest) / float(dim) + epsilon);
        for (d = 0; d < dim; d++) {
            T even;
            narrow(number(x[d]) * scale, even);
            narrow(number(even) * number(weight[d]), out[d]);
        }
    }
}

enum Dtype { FLOAT32, BFLOAT16, FLOAT16, INT8 };

}  // namespace

extern "C" {

// What the Python side must know of the constants above.
void quire_constants(int64_t* to) { to[0] = WIDE; to[1] = SPLIT; to[2] = ROW_CHUNK; to[3] = LANES; }

void quire_attend(const Attention* plan, int64_t layer, const void* q, const void* k, const void* v,
                  const int64_t* strides, void* out) {
    if (plan->dtype == BFLOAT16) attend<bf16>(*plan, layer, q, k, v, strides, out);
    else if (plan->dtype == FLOAT16) attend<f16>(*plan, layer, q, k, v, strides, out);
    else attend<float>(*plan, layer, q, k, v, strides, out);
}

// x [rows] of [dim], x_row apart -> out [rows][dim].
void quire_norm(const void* x, int64_t x_row, const void* weight, double epsilon, void* out, int64_t dtype, int64_t rows,
                int64_t dim) {
    const auto run = [&](auto example) {
        using T = decltype(example);
        norm(static_cast<const T*>(x), x_row, static_cast<const T*>(weight), float(epsilon), static_cast<T*>(out), rows, dim);
    };
    if (dtype == BFLOAT16) run(bf16{});
    else if (dtype == FLOAT16) run(f16{});
    else run(0.0f);
}

// weight [n][depth] in `dtype` -> panels, (n rounded up to WIDE) x depth numbers.
void quire_pack(const void* weight, int64_t dtype, int64_t n, int64_t depth, void* to, int64_t threads) {
    if (dtype == BFLOAT16)
        pack(static_cast<const uint16_t*>(weight), static_cast<PairedBf16*>(to), n, depth, int(threads),
             [](PairedBf16* step, int j, const uint16_t* x) {
                 const uint32_t bits = x ? *x : 0;
                 PairedBf16& pair = step[j % LANES];
                 pair.bits = j < LANES ? bits : pair.bits | bits << 16;
             });
    else if (dtype == FLOAT16)
        pack(static_cast<const f16*>(weight), static_cast<f16*>(to), n, depth, int(threads),
             [](f16* step, int j, const f16* x) { step[j] = x ? *x : f16{0}; });
    else if (dtype == INT8)
        pack(static_cast<const int8_t*>(weight), static_cast<Int8*>(to), n, depth, int(threads),
             [](Int8* step, int j, const int8_t* x) { step[j].value = x ? *x : 0; });
    else
        pack(static_cast<const float*>(weight), static_cast<float*>(to), n, depth, int(threads),
             [](float* step, int j, const float* x) { step[j] = x ? *x : 0.0f; });
}

// out [m][n] = x [m][depth] times packed weights, plus bias [n] or null; `scale` [n] for int8 weights, else null.
void quire_linear(const void* weight, int64_t weight_dtype, const float* scale, const void* bias, const void* x,
                  int64_t x_row, void* out, int64_t out_row, int64_t dtype, int64_t m, int64_t n, int64_t depth,
                  int64_t threads) {
    const auto run = [&](auto* w, auto example) {
        using T = decltype(example);
        linear(w, scale, static_cast<const T*>(bias), static_cast<const T*>(x), x_row, static_cast<T*>(out), out_row, m, n,
               depth, int(threads));
    };
    const auto with = [&](auto example) {
        if (weight_dtype == BFLOAT16) run(static_cast<const PairedBf16*>(weight), example);
        else if (weight_dtype == FLOAT16) run(static_cast<const f16*>(weight), example);
        else if (weight_dtype == INT8) run(static_cast<const Int8*>(weight), example);
        else run(static_cast<const float*>(weight), example);
    };
    if (dtype == BFLOAT16) with(bf16{});
    else if (dtype == FLOAT16) with(f16{});
    else with(0.0f);
}

}  // extern "C"
