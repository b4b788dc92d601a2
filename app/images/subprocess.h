#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace lowrank::app {

/// How a program ended.
struct ProcessResult {
  bool ok = false;      // it started and exited with 0
  std::string output;   // the last 64 KiB of standard output and standard error
  std::string problem;  // why it failed, for a message, with its last line of output; "" when ok
};

/// Runs `arguments` (the program is looked up on the PATH; no shell is involved) in `folder` with
/// an empty standard input, and kills it after `limit`. It stays in this process's group, so that
/// Ctrl-C reaches it as well.
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::filesystem::path& folder, std::chrono::seconds limit);

}  // namespace lowrank::app
