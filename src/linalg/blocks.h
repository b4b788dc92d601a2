#pragma once

#include <cstdint>

namespace lowrank {

/// How many numbers of a tensor are widened to float64 at a time: a megabyte, which stays in a
/// near cache through all passes over it. (With blocks of 32 MB, compare took three times as long.)
constexpr int64_t kBlockNumbers = int64_t{1} << 17;

}  // namespace lowrank
