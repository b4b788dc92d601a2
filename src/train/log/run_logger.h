#pragma once

#include <lowrank/train/run_log.h>
#include <lowrank/train/trainer.h>

#include <chrono>
#include <cstdint>
#include <optional>

namespace lowrank {

/// Writes what a run says of itself to its log, if RunOptions::log_to names one.
class RunLogger {
 public:
  explicit RunLogger(const RunOptions& run) : run_(run) {}

  /// Begins the log of a run that has done this many steps.
  void begin(int64_t step, int64_t total);
  bool is_on() const { return log_.has_value(); }

  /// Counts examples, for their number per second.
  void count(int64_t examples) { examples_ += examples; }
  /// `loss` is the mean since the point before.
  void point(double loss, const TrainProgress& progress);
  void validation(const TrainProgress& progress, const std::vector<NamedParameter>& parameters);

 private:
  using Clock = std::chrono::steady_clock;

  const RunOptions& run_;
  std::optional<RunLog> log_;
  int64_t examples_ = 0;  // since the last point
  Clock::time_point last_;
};

}  // namespace lowrank
