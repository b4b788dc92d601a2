#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace lowrank::app {

/// A progress bar on standard error: steps done, total, rate, running average of the loss if there
/// is one, time left. A terminal gets one line that is redrawn and never wider than the terminal; a
/// file or pipe gets one line every ten seconds and one at the end. Work that takes less than a
/// second prints nothing. NO_COLOR is honoured.
class Progress {
 public:
  /// `unit` names what is counted, in the plural: "steps". With `quiet`, nothing is printed. The
  /// total may be left to counter().
  Progress(std::string title, int64_t total, std::string unit, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Starts at `done`, for a run that is resumed. Earlier work does not count towards the rate.
  void start_at(int64_t done);
  void update(int64_t done, std::optional<double> loss = {});
  /// Returns a callback for work that names each thing before it begins with it, and says at which
  /// place it is and how many there are. Valid while this object exists.
  std::function<void(const std::string&, int64_t, int64_t)> counter();
  /// Says that everything is done.
  void finish() { update(total_); }
  /// Prints a line that stays.
  void note(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  void print(bool last);
  std::string line(int width) const;

  std::string title_, unit_;
  int64_t total_, start_ = 0, done_ = 0;
  bool quiet_, terminal_, color_, printed_ = false;
  std::optional<double> loss_;  // none if what is done has none
  Clock::time_point begin_, last_print_;
};

}  // namespace lowrank::app
