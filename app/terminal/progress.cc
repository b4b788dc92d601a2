#include "app/terminal/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace lowrank::app {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr int kBarWidth = 24;
constexpr double kRunning = 0.02;  // weight of the newest loss in the running average

std::string clock_time(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole >= 3600) {
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  }
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string bar(double share) {
  std::string text;
  const int full = static_cast<int>(share * kBarWidth);
  for (int i = 0; i < kBarWidth; ++i) text += i < full ? "█" : "░";
  return text;
}

}  // namespace

Progress::Progress(std::string title, int64_t total, std::string unit, bool quiet)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) != 0),
      color_(terminal_ && std::getenv("NO_COLOR") == nullptr),
      begin_(Clock::now()),
      last_print_(begin_) {}

Progress::~Progress() {
  if (!quiet_ && (printed_ || Seconds(Clock::now() - begin_).count() > 1)) print(/*last=*/true);
}

void Progress::start_at(int64_t done) { start_ = done_ = done; }

void Progress::update(int64_t done, double loss) {
  loss_ = done_ == start_ ? loss : loss_ + kRunning * (loss - loss_);
  done_ = done;
  if (quiet_) return;
  const auto now = Clock::now();
  const double wait = !terminal_ ? 10 : printed_ ? 0.1 : 0.5;
  if (Seconds(now - last_print_).count() < wait) return;
  last_print_ = now;
  print(/*last=*/false);
}

std::string Progress::line() const {
  const double seconds = Seconds(Clock::now() - begin_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_ - start_) / seconds : 0;
  const double share = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1;
  const auto left = rate > 0 ? clock_time(static_cast<double>(total_ - done_) / rate) : "?";
  return fmt::format("{}{} {}/{} {}  {:.1f}/s  loss {:.4f}  {}", title_,
                     color_ ? " \033[36m" + bar(share) + "\033[0m" : "", done_, total_, unit_, rate,
                     loss_, done_ >= total_ ? "in " + clock_time(seconds) : left + " left");
}

void Progress::print(bool last) {
  printed_ = true;
  if (terminal_) {
    fmt::print(stderr, "\r\033[K{}{}", line(), last ? "\n" : "");
  } else {
    fmt::print(stderr, "{}\n", line());
  }
  std::fflush(stderr);
}

}  // namespace lowrank::app
