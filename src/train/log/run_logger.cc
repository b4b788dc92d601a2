#include "train/log/run_logger.h"

#include <unistd.h>

#include <fstream>

namespace lowrank {
namespace {

/// The memory of this process that is in RAM, as the second field of /proc/self/statm says.
double resident_megabytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e6;
}

}  // namespace

void RunLogger::begin(int64_t step, int64_t total) {
  if (run_.log_to.empty()) return;
  log_.emplace(run_.log_to, step);
  last_ = Clock::now();
  if (run_.on_log) run_.on_log(*log_, {.step = step, .total = total});
}

void RunLogger::point(double loss, const TrainProgress& progress) {
  if (!log_) return;
  Metrics values = {{"train/loss", loss}, {"train/learning_rate", progress.learning_rate}};
  if (progress.gradient_norm) values.emplace_back("train/gradient_norm", *progress.gradient_norm);
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - last_).count();
  if (examples_ > 0 && seconds > 0) {
    values.emplace_back("train/examples_per_second", static_cast<double>(examples_) / seconds);
  }
  examples_ = 0;
  last_ = now;
  values.emplace_back("memory_mb", resident_megabytes());
  log_->scalars(progress.step, values);
}

void RunLogger::validation(const TrainProgress& progress,
                           const std::vector<NamedParameter>& parameters) {
  if (!log_) return;
  Metrics values = {{"validation/loss", progress.loss}};
  for (const auto& [name, value] : progress.metrics) {
    values.emplace_back("validation/" + name, value);
  }
  log_->scalars(progress.step, values);
  for (const auto& parameter : parameters) {
    log_->histogram(progress.step, "parameters/" + parameter.name, parameter.tensor);
  }
  if (run_.on_log) run_.on_log(*log_, progress);
}

}  // namespace lowrank
