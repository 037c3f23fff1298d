// The kernels beside plain loops in double: for processors that are emulated, where PyTorch would take minutes to load.
//
// Prints the instruction set, then one line for each difference that is too large; or what the processor lacks for it.
#include "kernels.cpp"

#include <cstdio>
#include <functional>
#include <random>
#include <vector>

namespace {

int wrong = 0;

template <class T> struct Name;
template <> struct Name<float> { static constexpr const char* word = "float32"; static constexpr double allowed = 2e-5; static constexpr Dtype code = FLOAT32; };
template <> struct Name<bf16> { static constexpr const char* word = "bfloat16"; static constexpr double allowed = 8e-3; static constexpr Dtype code = BFLOAT16; };
template <> struct Name<f16> { static constexpr const char* word = "float16"; static constexpr double allowed = 1e-3; static constexpr Dtype code = FLOAT16; };

template <class T> std::vector<T> some(size_t count, float spread = 1.0f) {
    static std::mt19937 draw(7);
    std::normal_distribution<float> normal(0.0f, spread);
    std::vector<T> numbers(count);
    for (T& x : numbers) narrow(normal(draw), x);
    return numbers;
}

// Compares `found` with what `exact` says of every index, relative to the largest.
template <class T> void compare(const char* what, const std::vector<T>& found, const std::function<double(size_t)>& exact) {
    double largest = 0, difference = 0;
    for (size_t i = 0; i < found.size(); i++) {
        const double expected = exact(i), off = std::abs(number(found[i]) - expected);
        largest = std::max(largest, std::abs(expected));
        difference = off <= difference ? difference : off;  // a NaN stays
    }
    if (difference <= Name<T>::allowed * largest) return;
    wrong++;
    std::printf("%s in %s: off by %g of %g\n", what, Name<T>::word, difference, largest);
}

template <class T> void check_linear(int64_t rows, int64_t width, int64_t depth, bool int8) {
    const auto weight = some<T>(width * depth), x = some<T>(rows * depth);
    const int64_t columns = panels(width) * WIDE, chosen = int8 || !std::is_same_v<T, bf16> ? VECTORS : unit();
    auto bias = some<float>(columns), scale = some<float>(columns);
    std::vector<int8_t> rounded(width * depth);
    for (size_t i = 0; i < rounded.size(); i++) rounded[i] = int8_t(number(weight[i]) * 40);
    std::vector<float> packed(quire_packed_size(chosen, width, depth));
    const Dtype code = int8 ? INT8 : Name<T>::code;
    quire_pack(int8 ? static_cast<const void*>(rounded.data()) : weight.data(), code, chosen, width, depth, packed.data(), 2);
    const Weights layer{packed.data(), int8 ? scale.data() : nullptr, bias.data(), code, chosen, width, depth};
    std::vector<T> out(rows * width), alone(rows * width);
    quire_linear(&layer, x.data(), depth, out.data(), width, Name<T>::code, rows, 2);
    for (int64_t r = 0; r < rows; r++)
        quire_linear(&layer, x.data() + r * depth, depth, alone.data() + r * width, width, Name<T>::code, 1, 1);
    if (std::memcmp(out.data(), alone.data(), out.size() * sizeof(T))) {
        wrong++;
        std::printf("linear in %s: a row's bits depend on the rows beside it\n", Name<T>::word);
    }
    compare<T>(int8 ? "linear, int8," : "linear", out, [&](size_t i) {
        const int64_t r = i / width, n = i % width;
        double sum = 0;
        for (int64_t k = 0; k < depth; k++)
            sum += number(x[r * depth + k]) * double(int8 ? rounded[n * depth + k] : number(weight[n * depth + k]));
        return sum * (int8 ? scale[n] : 1) + bias[n];
    });
}

template <class T> void check_norm(int64_t dim) {
    const auto x = some<T>(3 * dim), weight = some<T>(dim);
    std::vector<T> out(3 * dim);
    quire_norm(x.data(), dim, weight.data(), 1e-5, out.data(), Name<T>::code, 3, dim);
    compare<T>("norm", out, [&](size_t i) {
        double squares = 0;
        for (int64_t d = 0; d < dim; d++) squares += std::pow(number(x[i / dim * dim + d]), 2);
        return number(weight[i % dim]) * number(x[i]) / std::sqrt(squares / dim + 1e-5);
    });
}

// Five tokens behind a shared segment and three tokens of their own: `shared` keys in one range, eight in another.
template <class T> void check_attention(int64_t shared, int64_t dim) {
    constexpr int64_t tokens = 5, before = 3, heads = 4, kv_heads = 2, group = heads / kv_heads, own = tokens + before;
    const int64_t splits = (shared + SPLIT - 1) / SPLIT, padded = (dim + WIDE - 1) / WIDE * WIDE, parts = splits + 1;
    auto keys = some<T>(kv_heads * shared * dim), values = some<T>(kv_heads * shared * dim);
    auto own_keys = some<T>(kv_heads * own * dim), own_values = some<T>(kv_heads * own * dim);
    const auto q = some<T>(tokens * heads * dim, 2.0f), k = some<T>(tokens * kv_heads * dim), v = some<T>(tokens * kv_heads * dim);
    const Range ranges[] = {{0, tokens, shared, -1, shared * dim, 0, 0}, {0, tokens, own, before, own * dim, splits, 1}};
    std::vector<Work> works;
    for (int32_t h = 0; h < kv_heads; h++) {
        for (int32_t s = 0; s < splits; s++) works.push_back({0, h, s, 0});
        works.push_back({1, h, 0, 0});
    }
    void* const addresses[] = {keys.data(), values.data(), own_keys.data(), own_values.data()};
    std::vector<int64_t> offsets, part_of;
    for (int64_t t = 0; t <= tokens; t++) offsets.push_back(t * parts);
    for (int64_t i = 0; i < tokens * parts; i++) part_of.push_back(i % parts);
    std::vector<float> partial(parts * heads * tokens * padded), weight(parts * heads * tokens * 2);
    const Attention plan{tokens, heads, kv_heads, dim, Name<T>::code, 2, 2, int64_t(works.size()), 1, 0.3f, ranges,
                         works.data(), addresses, offsets.data(), part_of.data(), partial.data(), weight.data()};
    const int64_t strides[] = {heads * dim, dim, kv_heads * dim, dim, kv_heads * dim, dim};
    std::vector<T> out(tokens * heads * dim);
    quire_attend(&plan, 0, q.data(), k.data(), v.data(), strides, out.data());
    compare<T>("attention", out, [&](size_t i) {
        const int64_t token = i / (heads * dim), head = i / dim % heads, kv = head / group;
        double total = 0, sum = 0;
        const auto add = [&](const T* key, double value) {
            double score = 0;
            for (int64_t d = 0; d < dim; d++) score += double(number(q[(token * heads + head) * dim + d])) * number(key[d]);
            total += std::exp(score * double(0.3f));
            sum += std::exp(score * double(0.3f)) * value;
        };
        for (int64_t j = 0; j < shared; j++) add(&keys[(kv * shared + j) * dim], number(values[(kv * shared + j) * dim + i % dim]));
        for (int64_t j = 0; j <= before + token; j++) add(&own_keys[(kv * own + j) * dim], number(own_values[(kv * own + j) * dim + i % dim]));
        return sum / total;
    });
}

template <class T> void check_stack_parts(int64_t dim) {  // what a decoder layer has beside products, norms and attention
    const auto x = some<T>(dim, 4.0f), cosine = some<T>(dim), sine = some<T>(dim);
    std::vector<T> turned = x;
    rotate(turned.data(), cosine.data(), sine.data(), dim);
    compare<T>("rotary positions", turned, [&](size_t i) {
        const int64_t half = dim / 2;
        const double other = int64_t(i) < half ? -number(x[i + half]) : number(x[i - half]);
        return number(x[i]) * number(cosine[i]) + other * number(sine[i]);
    });
    std::vector<float> gates(dim / LANES * LANES);
    for (int64_t d = 0; d + LANES <= dim; d += LANES) store(gates.data() + d, sigmoid(widen(x.data() + d)));
    compare<float>("sigmoid", gates, [&](size_t i) { return 1 / (1 + std::exp(-double(number(x[i])))); });
    auto logits = some<T>(3 * dim);
    int64_t chosen[3];
    for (int64_t r = 0; r < 3; r++) narrow(99.0f, logits[r * dim + (r * 7 + 3) % dim]);
    quire_likeliest(logits.data(), Name<T>::code, 3, dim, chosen, 1);
    for (int64_t r = 0; r < 3; r++)
        if (chosen[r] != (r * 7 + 3) % dim) { wrong++; std::printf("likeliest in %s\n", Name<T>::word); }
}

template <class T> void check() {
    for (const int64_t rows : {1, 7, 25})
        for (const bool int8 : {false, true}) check_linear<T>(rows, 33, rows == 25 ? 1100 : 70, int8);
    check_linear<T>(3, 1, 1, false);
    for (const int64_t dim : {8, 30}) check_norm<T>(dim), check_stack_parts<T>(dim);
    check_attention<T>(1, 24);
    check_attention<T>(SPLIT + 70, 8);
    check_attention<T>(70, 320);
}

}  // namespace

int main() {
    if (const char* name = quire_lacking()) {
        std::printf("without %s\n", name);
        return 0;
    }
    std::printf("%s\n", quire_level());
    check<float>();
    check<bf16>();
    check<f16>();
    return wrong > 0;
}
