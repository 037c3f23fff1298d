// Argument: how often a team goes through some items. Prints how many items were run twice, not at all, or too late.
#include "team.h"

#include <array>
#include <cstdio>

int main(int, char** arguments) {
    std::array<int, 64> runs{};
    int wrong = 0;
    for (int64_t round = 0; round < std::atoll(arguments[1]); round++) {
        const int64_t items = 2 + round * 7919 % 40;
        runs.fill(0);
        team().each(items, 2, [&](int64_t i) { runs[i]++; });
        for (int64_t i = 0; i < int64_t(runs.size()); i++) wrong += runs[i] != (i < items);
    }
    std::printf("%d\n", wrong);
}
