#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/schedule.h>

#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace lowrank {
namespace {

constexpr std::array<std::pair<ScheduleKind, const char*>, 3> kNames = {{
    {ScheduleKind::kConstant, "constant"},
    {ScheduleKind::kLinear, "linear"},
    {ScheduleKind::kCosine, "cosine"},
}};

}  // namespace

double schedule_factor(const Schedule& schedule, int64_t step, int64_t total) {
  const auto warmup = schedule.warmup_steps;
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (schedule.kind == ScheduleKind::kConstant || total <= warmup) return 1;
  const double done = static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
  if (schedule.kind == ScheduleKind::kLinear) return 1 - done;
  return 0.5 * (1 + std::cos(std::numbers::pi * done));
}

const char* schedule_name(ScheduleKind kind) {
  for (const auto& [known, name] : kNames) {
    if (known == kind) return name;
  }
  return "";
}

ScheduleKind schedule_kind(const std::string& name) {
  for (const auto& [kind, known] : kNames) {
    if (name == known) return kind;
  }
  fail<ArgumentError>("train", "the schedule must be constant, linear or cosine",
                      fmt::format("\"{}\"", name),
                      did_you_mean(name, {"constant", "linear", "cosine"}));
}

}  // namespace lowrank
