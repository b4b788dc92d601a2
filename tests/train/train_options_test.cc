#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/train/train_options.h>

#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "support/expect_error.h"

namespace lowrank {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

void expect_refused(const std::function<void(TrainOptions&)>& spoil, const std::string& message) {
  TrainOptions options;
  spoil(options);
  LOWRANK_EXPECT_ERROR(check(options), ArgumentError, "[train] " + message);
}

TEST(TrainOptions, DefaultsAreTheNotebooks) {
  const TrainOptions options;
  EXPECT_NO_THROW(check(options));
  EXPECT_EQ(options.batch_size, 10);
  EXPECT_EQ(options.learning_rate, 1e-3);
}

TEST(TrainOptions, RefusesWhatIsOutOfRange) {
  expect_refused([](auto& o) { o.epochs = 0; }, "epochs must be at least 1. Got 0.");
  expect_refused([](auto& o) { o.steps = -1; }, "steps must be at least 0. Got -1.");
  expect_refused([](auto& o) { o.batch_size = 0; }, "batch_size must be at least 1. Got 0.");
  for (const double rate : {0.0, -1e-3, kNan, kInf}) {
    expect_refused([rate](auto& o) { o.learning_rate = rate; },
                   "learning_rate must be finite and above 0. Got ");
  }
  for (const double decay : {-1e-3, kNan, kInf}) {
    expect_refused([decay](auto& o) { o.weight_decay = decay; },
                   "weight_decay must be finite and at least 0. Got ");
    expect_refused([decay](auto& o) { o.seconds = decay; },
                   "seconds must be finite and at least 0 (0: no limit). Got ");
  }
  expect_refused([](auto& o) { o.validate_every = -1; },
                 "validate_every must be at least 0. Got -1.");
  expect_refused([](auto& o) { o.validation_batch_size = -1; },
                 "validation_batch_size must be at least 0. Got -1.");
  expect_refused([](auto& o) { o.patience = -1; }, "patience must be at least 0. Got -1.");
  expect_refused([](auto& o) { o.schedule.warmup_steps = -2; },
                 "warmup_steps must be at least 0. Got -2.");
  for (const double norm : {-1.0, kNan, kInf}) {
    expect_refused([norm](auto& o) { o.clip_norm = norm; },
                   "clip_norm must be finite and at least 0 (0 disables clipping). Got ");
  }
  expect_refused([](auto& o) { o.accumulate = 0; }, "accumulate must be at least 1. Got 0.");
  expect_refused([](auto& o) { o.accumulate = 1'000'000'000; },
                 "accumulate must be at most 1000000. Got 1000000000.");
  for (const double share : {-0.1, 1.0, kNan}) {
    expect_refused([share](auto& o) { o.validation = share; },
                   "validation must be at least 0 and below 1. Got ");
    expect_refused([share](auto& o) { o.replay = share; },
                   "replay must be at least 0 and below 1. Got ");
  }
}

TEST(TrainOptions, EpochsDoNotCountBesideSteps) {
  TrainOptions options;
  options.steps = 1;
  options.epochs = 0;
  EXPECT_NO_THROW(check(options));
}

TEST(TrainOptions, EveryOptionIsInTheirText) {
  const auto plain = to_json(TrainOptions()).dump();
  EXPECT_EQ(to_json(TrainOptions()).dump(), plain);
  const std::vector<std::function<void(TrainOptions&)>> changes = {
      [](auto& o) { o.epochs = 2; },
      [](auto& o) { o.steps = 5; },
      [](auto& o) { o.batch_size = 11; },
      [](auto& o) { o.learning_rate = 0.0010000000000000002; },
      [](auto& o) { o.schedule.kind = ScheduleKind::kCosine; },
      [](auto& o) { o.schedule.warmup_steps = 1; },
      [](auto& o) { o.clip_norm = 1; },
      [](auto& o) { o.accumulate = 2; },
      [](auto& o) { o.validation = 0.1; },
      [](auto& o) { o.validate_every = 3; },
      [](auto& o) { o.validation_batch_size = 3; },
      [](auto& o) { o.patience = 3; },
      [](auto& o) { o.weight_decay = 0.1; },
      [](auto& o) { o.seconds = 9; },
      [](auto& o) { o.replay = 0.5; },
      [](auto& o) { o.seed = std::numeric_limits<uint64_t>::max(); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    TrainOptions options;
    changes[i](options);
    EXPECT_NE(to_json(options).dump(), plain) << "change " << i;
  }
}

}  // namespace
}  // namespace lowrank
