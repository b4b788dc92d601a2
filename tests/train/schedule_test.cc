#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/train/schedule.h>

#include <cmath>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(Schedule, ConstantStaysAtOne) {
  for (const int64_t step : {0, 5, 9}) EXPECT_EQ(schedule_factor({}, step, 10), 1);
}

TEST(Schedule, LinearFallsAlongALine) {
  const Schedule schedule{.kind = ScheduleKind::kLinear};
  EXPECT_EQ(schedule_factor(schedule, 0, 10), 1);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 4, 10), 0.6);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 9, 10), 0.1);
}

TEST(Schedule, CosineFallsAlongHalfACosine) {
  const Schedule schedule{.kind = ScheduleKind::kCosine};
  EXPECT_EQ(schedule_factor(schedule, 0, 12), 1);
  EXPECT_NEAR(schedule_factor(schedule, 4, 12), 0.75, 1e-15);  // cos 60° = 1/2
  EXPECT_NEAR(schedule_factor(schedule, 6, 12), 0.5, 1e-15);
  EXPECT_NEAR(schedule_factor(schedule, 8, 12), 0.25, 1e-15);
}

TEST(Schedule, WarmsUpAndThenFalls) {
  const Schedule schedule{.kind = ScheduleKind::kLinear, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 0, 14), 0.25);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 3, 14), 1);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 4, 14), 1);
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 9, 14), 0.5);
}

TEST(Schedule, AWarmUpMayOutlastTheRun) {
  const Schedule schedule{.kind = ScheduleKind::kCosine, .warmup_steps = 10};
  EXPECT_DOUBLE_EQ(schedule_factor(schedule, 4, 5), 0.5);
  EXPECT_TRUE(std::isfinite(schedule_factor({ScheduleKind::kCosine, 5}, 5, 5)));
}

TEST(Schedule, HasNames) {
  for (const auto kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    EXPECT_EQ(schedule_kind(schedule_name(kind)), kind);
  }
  LOWRANK_EXPECT_ERROR(schedule_kind("cosin"), ArgumentError,
                       "[train] the schedule must be constant, linear or cosine. Got \"cosin\". "
                       "Did you mean \"cosine\"?");
}

}  // namespace
}  // namespace lowrank
