#include "app/terminal/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>
#include <thread>

namespace lowrank::app {
namespace {

/// While it exists, standard error is a terminal of this width.
class TerminalScope {
 public:
  explicit TerminalScope(uint16_t columns) : saved_(::dup(STDERR_FILENO)) {
    winsize size{};
    size.ws_row = 24;
    size.ws_col = columns;
    int terminal = -1;
    if (::openpty(&reader_, &terminal, nullptr, nullptr, &size) != 0) return;
    ::dup2(terminal, STDERR_FILENO);
    ::close(terminal);
    ::fcntl(reader_, F_SETFL, O_NONBLOCK);
  }
  ~TerminalScope() {
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
    ::close(reader_);
  }
  TerminalScope(const TerminalScope&) = delete;
  TerminalScope& operator=(const TerminalScope&) = delete;

  std::string printed() const {
    std::string text;
    char chunk[4096];
    for (ssize_t got = 0; (got = ::read(reader_, chunk, sizeof chunk)) > 0;) {
      text.append(chunk, static_cast<size_t>(got));
    }
    return text;
  }

 private:
  int saved_ = -1, reader_ = -1;
};

/// The columns that a line takes, without the sequences that colour it or clear it.
int64_t columns_of(const std::string& line) {
  int64_t columns = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const auto byte = static_cast<unsigned char>(line[i]);
    if (byte == 0x1b) {
      i = line.find_first_of("mK", i);
    } else if ((byte & 0xC0U) != 0x80U && byte >= 0x20) {
      ++columns;
    }
  }
  return columns;
}

TEST(Progress, IsOneLineThatIsNeverWiderThanTheTerminal) {
  for (const uint16_t width : std::initializer_list<uint16_t>{20, 40, 80, 200}) {
    const TerminalScope terminal(width);
    {
      Progress progress("finetune", 123456, "steps", /*quiet=*/false);
      progress.update(1000, 2.5);
      std::this_thread::sleep_for(std::chrono::milliseconds(550));
      progress.update(2000, 2.25);
    }
    const auto text = terminal.printed();
    EXPECT_NE(text.find("2000/123456"), std::string::npos) << text;
    std::string line;
    for (std::istringstream lines(text); std::getline(lines, line, '\r');) {
      EXPECT_LT(columns_of(line), width) << line;
    }
    EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 1) << "a redraw is no new line";
  }
}

TEST(Progress, PrintsLinesThatStay) {
  const TerminalScope terminal(80);
  {
    Progress progress("train", 10, "steps", /*quiet=*/false);
    progress.note("step 5/10: validation loss 0.5000");
  }
  const auto text = terminal.printed();
  EXPECT_NE(text.find("train step 5/10: validation loss 0.5000\r\n"), std::string::npos) << text;
}

TEST(Progress, PrintsNothingIfItIsQuiet) {
  const TerminalScope terminal(80);
  {
    Progress progress("train", 10, "steps", /*quiet=*/true);
    progress.note("step 5/10: validation loss 0.5000");
    progress.update(10, 1);
  }
  EXPECT_EQ(terminal.printed(), "");
}

}  // namespace
}  // namespace lowrank::app
