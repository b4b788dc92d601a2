#include "app/terminal/progress.h"

#include <fmt/format.h>
#include <lowrank/io/printable.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "app/terminal/message.h"

namespace lowrank::app {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr int kWidestBar = 24, kNarrowestBar = 4;
constexpr int kUnlimited = 1000;   // columns of a file or a pipe
constexpr double kRunning = 0.02;  // weight of the newest loss in the running average

std::string clock_time(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole >= 3600) {
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  }
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

int columns(const std::string& text) { return static_cast<int>(terminal_columns(text)); }

std::string bar(double share, int width) {
  std::string text;
  const int full = static_cast<int>(share * width);
  for (int i = 0; i < width; ++i) text += i < full ? "█" : "░";
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

void Progress::update(int64_t done, std::optional<double> loss) {
  loss_ = loss && loss_ ? *loss_ + kRunning * (*loss - *loss_) : loss;
  done_ = done;
  if (quiet_) return;
  const auto now = Clock::now();
  const double wait = !terminal_ ? 10 : printed_ ? 0.1 : 0.5;
  if (Seconds(now - last_print_).count() < wait) return;
  last_print_ = now;
  print(/*last=*/false);
}

std::function<void(const std::string&, int64_t, int64_t)> Progress::counter() {
  return [this](const std::string& /*name*/, int64_t done, int64_t total) {
    total_ = total;
    update(done);
  };
}

void Progress::note(const std::string& text) {
  if (quiet_) return;
  fmt::print(stderr, "{}{} {}\n", terminal_ ? "\r\033[K" : "", title_, text);
  std::fflush(stderr);
}

std::string Progress::line(int width) const {
  const double seconds = Seconds(Clock::now() - begin_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_ - start_) / seconds : 0;
  const double share = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1;
  const auto left = rate > 0 ? clock_time(static_cast<double>(total_ - done_) / rate) : "?";
  // What matters least is left out first where the terminal is narrow. The bar gets what is left.
  const auto time = done_ >= total_ ? "in " + clock_time(seconds) : left + " left";
  const auto count = fmt::format("{}/{}", done_, total_);
  const auto loss = loss_ ? fmt::format("loss {:.4f}  ", *loss_) : std::string();
  const auto speed = fmt::format("{:.1f}/s", rate);
  std::string text;
  for (const auto& candidate :
       {fmt::format("{} {}  {}  {}{}", count, unit_, speed, loss, time),
        fmt::format("{}  {}  {}{}", count, speed, loss, time),
        fmt::format("{}  {}{}", count, loss, time), fmt::format("{}  {}", count, time), count}) {
    text = candidate;
    if (columns(title_ + " " + text) <= width) break;
  }
  const int room = width - columns(title_ + "  " + text);
  const int bar_width = std::min(kWidestBar, room);
  if (color_ && bar_width >= kNarrowestBar) {
    return fmt::format("{} \033[36m{}\033[0m {}", title_, bar(share, bar_width), text);
  }
  auto line = title_ + " " + text;
  if (columns(line) > width) line = text.substr(0, static_cast<size_t>(std::max(width, 0)));
  return line;
}

void Progress::print(bool last) {
  printed_ = true;
  if (terminal_) {
    // The last column stays free, because some terminals wrap a line that fills it.
    fmt::print(stderr, "\r\033[K{}{}", line(terminal_width(stderr) - 1), last ? "\n" : "");
  } else {
    fmt::print(stderr, "{}\n", line(kUnlimited));
  }
  std::fflush(stderr);
}

}  // namespace lowrank::app
