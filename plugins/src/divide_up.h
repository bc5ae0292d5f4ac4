#pragma once

#include <cstdint>

namespace serpent {

// How many pieces of `size` >= 1 hold `count` >= 0; no sum that could overflow.
inline int64_t divide_up(int64_t count, int64_t size) { return count / size + (count % size != 0 ? 1 : 0); }

}  // namespace serpent
