#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace lowrank::app {

/// A progress bar on standard error: done, total, rate, running loss, time left. On a terminal one
/// line that is redrawn; elsewhere a plain line every ten seconds and one at the end. Work of under
/// a second prints nothing. NO_COLOR is honoured.
class Progress {
 public:
  /// `unit` is what is counted, in the plural: "steps". A quiet one prints nothing.
  Progress(std::string title, int64_t total, std::string unit, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Work that was done before, by a run that is resumed: it does not count for the rate.
  void start_at(int64_t done);
  void update(int64_t done, double loss);

 private:
  using Clock = std::chrono::steady_clock;
  void print(bool last);
  std::string line() const;

  std::string title_, unit_;
  int64_t total_, start_ = 0, done_ = 0;
  bool quiet_, terminal_, color_, printed_ = false;
  double loss_ = 0;
  Clock::time_point begin_, last_print_;
};

}  // namespace lowrank::app
