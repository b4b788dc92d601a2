#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <string>

namespace lowrank {

enum class ScheduleKind { kConstant, kLinear, kCosine };

/// How the learning rate moves over a run.
struct Schedule {
  ScheduleKind kind = ScheduleKind::kConstant;  ///< after the warm-up
  int64_t warmup_steps = 0;                     ///< steps of linear rise from 0; 0 disables
};

/// What the peak rate is multiplied by at `step` (from 0) of `total`. In the warm-up
/// (step + 1) / warmup_steps, so that the first step moves; then 1, or down to 0 at `total` along
/// a line or half a cosine.
LOWRANK_API double schedule_factor(const Schedule& schedule, int64_t step, int64_t total);

/// "constant", "linear" or "cosine", and back; throws ArgumentError for another name.
LOWRANK_API const char* schedule_name(ScheduleKind kind);
LOWRANK_API ScheduleKind schedule_kind(const std::string& name);

}  // namespace lowrank
