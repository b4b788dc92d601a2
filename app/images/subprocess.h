#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace lowrank::app {

/// How a program ended.
struct ProcessResult {
  bool ok = false;      // it started and exited with 0
  std::string output;   // standard output and error, the last 64 KiB
  std::string problem;  // one clause for a message, its last line of output included; "" when ok
};

/// Runs `arguments` (the program is looked up on the PATH; no shell is involved) in `folder` with
/// nothing on its standard input, and kills it after `limit`. It stays in this process's group,
/// so Ctrl-C reaches it as well.
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::filesystem::path& folder, std::chrono::seconds limit);

}  // namespace lowrank::app
