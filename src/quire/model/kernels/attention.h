// Attention over ranges of keys: shared segments, read once for all the rows that attend to them, and suffixes.
//
// Softmax is computed block by block with a running reference (Milakov and Gimelshein, arXiv 1805.02867), partial results
// are merged by their references and sums as in FlashAttention (arXiv 2205.14135) and Hydragen (arXiv 2402.05099).
#pragma once

#include "linear.h"

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
    float* weight;           // [part][heads][tokens][2]: reference in powers of two, sum relative to it
};

}  // extern "C"

namespace {

constexpr int SPLIT = 1024;     // keys of one partial result
constexpr int ROW_CHUNK = 384;  // query rows of one partial result
constexpr int CALLS = 6;         // of `Ahead::fetch` while a unit computes scores and sums of some rows
constexpr float FAR = 8.0f;     // powers of two that a share may exceed 1 by, so that the reference seldom moves

// The next block of keys and values, asked for while this one is computed with, a few lines at a time: memory would rest
// meanwhile, and who asks for many lines at once waits for most of them.
class Ahead {
  public:
    // `bytes` of each are wanted, over `calls` of `fetch`; what these are too few for is left to be read when it is needed.
    Ahead(const void* keys, const void* values, int64_t bytes, int64_t calls)
        : keys_(static_cast<const char*>(keys)), values_(static_cast<const char*>(values)), left_(bytes / LINE),
          each_(std::min<int64_t>((left_ + calls - 1) / calls, MOST)) {}

    void fetch() {
        for (int64_t i = std::min(each_, left_); i > 0; i--, left_--, keys_ += LINE, values_ += LINE) {
            __builtin_prefetch(keys_, 0, 2);
            __builtin_prefetch(values_, 0, 2);
        }
    }

  private:
    static constexpr int LINE = 64, MOST = 14;  // bytes; as many lines as a core can be waiting for
    const char *keys_, *values_;
    int64_t left_, each_;
};

// What attention needs of a unit that multiplies: how operands lie, and the two products. This one is for vectors of
// float32; see also `DotUnit` and `MatrixUnit`.
template <class T> struct VectorUnit {
    using Element = float;
    struct Session {};
    static constexpr int ROWS = ::ROWS, BLOCK = ::BLOCK, STEP = WIDE;
    static constexpr bool IN_PLACE = true;  // probabilities replace scores

    static int64_t depth(int64_t dim, int64_t) { return dim; }

    template <class Row> static void pack_queries(Row row, int rows, int64_t dim, int64_t, float* to) {
        for (int r = 0; r < rows; r++)
            for (int64_t d = 0; d < dim; d++) to[d * rows + r] = number(row(r)[d]);
    }

    // keys [count][dim] -> float32 [dim][BLOCK], zeros behind `count` up to a multiple of STEP.
    static void pack_keys(const T* keys, int count, int64_t dim, int64_t, float* to) {
        const int until = (count + STEP - 1) / STEP * STEP;
        int64_t d = transposed(keys, count, until, dim, to);
        for (; d < dim; d++)
            for (int i = 0; i < until; i++) to[d * BLOCK + i] = i < count ? number(keys[i * dim + d]) : 0.0f;
    }

    // values [count][dim] -> float32 [count][padded], zeros from dim on.
    static void pack_values(const T* values, int count, int64_t dim, int64_t padded, float* to) {
        for (int i = 0; i < count; i++, values += dim, to += padded) {
            int64_t d = 0;
            for (; d + LANES <= dim; d += LANES) store(to + d, widen(values + d));
            for (; d < padded; d++) to[d] = d < dim ? number(values[d]) : 0.0f;
        }
    }

    static void score(int rows, const float* queries, const float* keys, int count, int64_t dim, float* scores, Ahead&) {
        for (int j = 0; j < count; j += WIDE) tiles<PACKED>(rows, queries, keys + j, BLOCK, dim, scores + j, BLOCK, true);
    }

    static void weigh(int rows, const float* shares, const float* values, int count, int64_t padded, float* sums, Ahead&) {
        for (int64_t d = 0; d < padded; d += WIDE)
            tiles<BLOCK>(rows, shares, values + d, padded, count, sums + d, padded, false);
    }

    static vf power(vf x) { return exp2_of(x); }

    static void keep(vf left, vf right, float* to) { store(to, left); store(to + LANES, right); }

  private:
    static int64_t transposed(const bf16* keys, int count, int until, int64_t dim, float* to) {
        int64_t d = 0;
        for (; d + WIDE <= dim; d += WIDE)
            for (int first = 0; first < until; first += LANES) {
                vu v[LANES];
                for (int i = 0; i < LANES; i++) v[i] = first + i < count ? load<vu>(keys + (first + i) * dim + d) : vu{};
                transpose(v);
                for (int i = 0; i < LANES; i++) {
                    store(to + (d + 2 * i) * BLOCK + first, (vf)(v[i] << 16));
                    store(to + (d + 2 * i + 1) * BLOCK + first, (vf)(v[i] & 0xffff0000u));
                }
            }
        return d;
    }
    template <class U> static int64_t transposed(const U* keys, int count, int until, int64_t dim, float* to) {
        int64_t d = 0;
        for (; d + LANES <= dim; d += LANES)
            for (int first = 0; first < until; first += LANES) {
                vf v[LANES];
                for (int i = 0; i < LANES; i++) v[i] = first + i < count ? widen(keys + (first + i) * dim + d) : vf{};
                transpose(v);
                for (int i = 0; i < LANES; i++) store(to + (d + i) * BLOCK + first, v[i]);
            }
        return d;
    }
};

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
    template <class Unit> void attend(const Work& w, Scratch& scratch) const {
        using Element = typename Unit::Element;
        [[maybe_unused]] const typename Unit::Session session;
        const Range& range = plan.range[w.range];
        const int64_t group = plan.heads / plan.kv_heads, dim = plan.dim, depth = Unit::depth(dim, padded);
        const int64_t row0 = int64_t(w.chunk) * ROW_CHUNK;
        const int64_t rows = std::min<int64_t>(ROW_CHUNK, (range.last - range.first) * group - row0);
        const int64_t from = int64_t(w.split) * SPLIT, room = (rows + Unit::ROWS - 1) / Unit::ROWS * Unit::ROWS;
        int64_t until = std::min(range.keys, from + SPLIT);
        if (range.before >= 0) until = std::min(until, range.before + (row0 + rows - 1) / group + 1);

        // Buffers begin a few lines apart from multiples of a page: there a load would wait for stores to the others.
        constexpr int APART = 80, BUFFERS = 8;
        const auto floats = [](int64_t elements) { return (elements * int64_t(sizeof(Element)) / 4 + 15) / 16 * 16; };
        float* memory = scratch.need(floats(Unit::BLOCK * (depth + padded + Unit::ROWS) + room * depth) + BUFFERS * (16 + APART) +
                                     Unit::BLOCK * Unit::ROWS + room * (padded + LANES + 1));
        const auto take = [&](int64_t size) { float* here = memory; memory += size + APART; return here; };
        Element* packed_keys = reinterpret_cast<Element*>(take(floats(Unit::BLOCK * depth)));
        Element* packed_values = reinterpret_cast<Element*>(take(floats(Unit::BLOCK * padded)));
        float* scores = take(Unit::BLOCK * Unit::ROWS);
        Element* shares = reinterpret_cast<Element*>(Unit::IN_PLACE ? scores : take(floats(Unit::BLOCK * Unit::ROWS)));
        float* sums = take(room * padded);
        Element* queries = reinterpret_cast<Element*>(take(floats(room * depth)));
        float* totals = take(room * LANES);
        float* references = take(room);

        for (int64_t first = 0; first < rows; first += Unit::ROWS) {
            const int here = int(std::min<int64_t>(Unit::ROWS, rows - first));
            const auto row = [&](int r) {
                const int64_t at = row0 + first + r;
                return q + (range.first + at / group) * q_token + (w.head * group + at % group) * q_head;
            };
            Unit::pack_queries(row, here, dim, padded, queries + first * depth);
        }
        std::fill(sums, sums + room * padded, 0.0f);
        std::fill(references, references + rows, NONE);
        std::fill(totals, totals + rows * LANES, 0.0f);

        const int64_t head = w.head * range.head_stride;
        for (int64_t block = from; block < until; block += Unit::BLOCK) {
            const int count = int(std::min<int64_t>(Unit::BLOCK, until - block));
            Unit::pack_keys(keys(range) + head + block * dim, count, dim, padded, packed_keys);
            Unit::pack_values(values(range) + head + block * dim, count, dim, padded, packed_values);
            const int64_t next = block + Unit::BLOCK, coming = std::clamp<int64_t>(until - next, 0, Unit::BLOCK);
            const int64_t calls = rows + room / Unit::ROWS * CALLS;
            Ahead ahead(keys(range) + head + next * dim, values(range) + head + next * dim, coming * dim * sizeof(T), calls);
            for (int64_t first = 0; first < rows; first += Unit::ROWS) {
                const int here = int(std::min<int64_t>(Unit::ROWS, rows - first));
                Unit::score(here, queries + first * depth, packed_keys, count, depth, scores, ahead);
                for (int r = 0; r < here; r++) {
                    ahead.fetch();
                    int64_t seen = count;
                    if (range.before >= 0) seen = std::min<int64_t>(count, range.before + (row0 + first + r) / group + 1 - block);
                    const auto run = seen == Unit::BLOCK ? &Step::soften<Unit, true> : &Step::soften<Unit, false>;
                    (this->*run)(scores + r * Unit::BLOCK, seen, count, references[first + r], totals + (first + r) * LANES,
                                 shares + r * Unit::BLOCK, sums + (first + r) * padded);
                }
                Unit::weigh(here, shares, packed_values, count, padded, sums + first * padded, ahead);
            }
        }
        for (int64_t r = 0; r < rows; r++) {
            const int64_t token = range.first + (row0 + r) / group, h = w.head * group + (row0 + r) % group;
            const int64_t at = ((range.part + w.split) * plan.heads + h) * plan.tokens + token;
            std::memcpy(plan.partial + at * padded, sums + r * padded, padded * sizeof(float));
            plan.weight[2 * at] = references[r];
            plan.weight[2 * at + 1] = total(load<vf>(totals + r * LANES));
        }
    }

    // Scores of one row to shares: powers of two relative to a reference, which is the largest score of the first block
    // that was seen, and follows when a score is far above it. Keys from `seen` on have no share.
    template <class Unit, bool WHOLE> void soften(float* row, int64_t seen, int count, float& reference, float* sum,
                                                  typename Unit::Element* shares, float* sums) const {
        constexpr float NEVER = -1e30f;
        const int until = WHOLE ? Unit::BLOCK : (count + WIDE - 1) / WIDE * WIDE;
        if (seen <= 0) {
            for (int j = 0; j < until; j += WIDE) Unit::keep(vf{}, vf{}, shares + j);
            return;
        }
        for (int64_t j = seen; j < until; j++) row[j] = NEVER;
        vf highest = vf{} + NEVER;
#pragma GCC unroll 8
        for (int j = 0; j < until; j += LANES) {
            const vf x = load<vf>(row + j);
            highest = x > highest ? x : highest;
        }
        const float factor = plan.scale * LOG2E;
        if (reference == NONE || any(highest * factor > reference + FAR)) {
            const float now = largest(highest) * factor, shrink = reference == NONE ? 0.0f : std::exp2(reference - now);
            store(sum, load<vf>(sum) * shrink);
            for (int64_t d = 0; d < padded; d += LANES) store(sums + d, load<vf>(sums + d) * shrink);
            reference = now;
        }
        vf added = load<vf>(sum);
#pragma GCC unroll 4
        for (int j = 0; j < until; j += WIDE) {
            const vf left = Unit::power(load<vf>(row + j) * factor - reference);
            const vf right = Unit::power(load<vf>(row + j + LANES) * factor - reference);
            Unit::keep(left, right, shares + j);
            added += left + right;
        }
        store(sum, added);
    }

    void merge(int64_t token, int64_t head) const {
        const int64_t *part = plan.part_of + plan.parts[token], *end = plan.part_of + plan.parts[token + 1];
        const auto at = [&](int64_t p) { return (p * plan.heads + head) * plan.tokens + token; };
        float maximum = NONE, sum = 0.0f;
        for (auto p = part; p < end; p++) maximum = std::max(maximum, plan.weight[2 * at(*p)]);
        static thread_local Scratch scratch;
        float* merged = scratch.need(padded);
        std::fill(merged, merged + padded, 0.0f);
        for (auto p = part; p < end; p++) {
            const float share = std::exp2(plan.weight[2 * at(*p)] - maximum);
            sum += plan.weight[2 * at(*p) + 1] * share;
            const float* partial = plan.partial + at(*p) * padded;
            for (int64_t d = 0; d < padded; d += LANES)
                store(merged + d, load<vf>(merged + d) + load<vf>(partial + d) * share);
        }
        T* to = out + (token * plan.heads + head) * plan.dim;
        int64_t d = 0;
        for (; d + LANES <= plan.dim; d += LANES) narrow(load<vf>(merged + d) / sum, to + d);
        for (; d < plan.dim; d++) narrow(merged[d] / sum, to[d]);
    }

    template <class Unit> void run() const {
        const int64_t fresh = plan.tokens * plan.kv_heads * plan.dim;
        team().each(plan.ranges, fresh < 1 << 15 ? 1 : plan.threads, [&](int64_t i) {
            if (plan.range[i].before >= 0) keep(plan.range[i]);
        });
        team().each(plan.works, plan.threads, [&](int64_t i) {
            static thread_local Scratch scratch;
            attend<Unit>(plan.work[i], scratch);
        });
        const int64_t rows = plan.tokens * plan.heads, some = 32;
        team().each((rows + some - 1) / some, plan.threads, [&](int64_t i) {
            for (int64_t row = i * some; row < std::min(rows, (i + 1) * some); row++) merge(row / plan.heads, row % plan.heads);
        });
    }
};

// `strides`: of q by token and head, then of k, then of v.
template <class T>
void attend(const Attention& plan, int64_t layer, const T* q, const T* k, const T* v, const int64_t* strides, T* out) {
    const int64_t padded = (plan.dim + WIDE - 1) / WIDE * WIDE;
    const Step<T> step{plan, layer, padded, q, k, v, strides[0], strides[1], strides[2], strides[3], strides[4], strides[5], out};
    if constexpr (std::is_same_v<T, bf16>) {
#ifdef QUIRE_MATRIX
        if (unit() == TILES) return step.template run<MatrixUnit>();
#endif
#ifdef QUIRE_DOTS
        if (unit() == DOTS) return step.template run<DotUnit>();
#endif
    }
    step.template run<VectorUnit<T>>();
}

}  // namespace
