#include "cli/launcher/standard_streams.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "app/terminal/message.h"

namespace lowrank::cli {

void occupy_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) >= 0) continue;
    open("/dev/null", (stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
  }
}

int report(const std::string& sentence, int status) {
  app::print_message(sentence);
  return status;
}

int report_unwritten_output(const std::error_code& reason) {
  return report(error_message("output", "standard output must be writable",
                              fmt::format("\"{}\"", reason.message())),
                kFailed);
}

int finish_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  return report_unwritten_output(std::error_code(errno, std::generic_category()));
}

}  // namespace lowrank::cli
