#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <string>

namespace lowrank {

enum class ScheduleKind { kConstant, kLinear, kCosine };

/// How the learning rate changes over a training run.
struct Schedule {
  ScheduleKind kind = ScheduleKind::kConstant;  ///< curve after the warm-up
  int64_t warmup_steps = 0;                     ///< steps in which it rises linearly to the peak
};

/// Returns the factor that the peak rate is multiplied by at `step` (counted from 0) of `total`.
/// During the warm-up it is (step + 1) / warmup_steps, so that the first step already has an
/// effect. After that it is 1, or it falls to 0 at `total` along a line or half a cosine.
LOWRANK_API double schedule_factor(const Schedule& schedule, int64_t step, int64_t total);

/// Convert a kind to "constant", "linear" or "cosine" and back; an unknown name throws
/// ArgumentError.
LOWRANK_API const char* schedule_name(ScheduleKind kind);
LOWRANK_API ScheduleKind schedule_kind(const std::string& name);

}  // namespace lowrank
