#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <string>
#include <vector>

#include "support/run_command.h"

namespace lowrank {

/// Runs the commands in parallel, because most of them take longer to start than to run.
inline std::vector<CommandResult> run_each(const std::vector<std::vector<std::string>>& commands) {
  constexpr size_t kAtOnce = 4;
  std::vector<CommandResult> results;
  for (size_t begin = 0; begin < commands.size(); begin += kAtOnce) {
    std::vector<std::future<CommandResult>> running;
    for (size_t i = begin; i < std::min(begin + kAtOnce, commands.size()); ++i) {
      running.push_back(
          std::async(std::launch::async, [&, i] { return run_lowrank(commands[i]); }));
    }
    for (auto& command : running) results.push_back(command.get());
  }
  return results;
}

/// A command that must fail, and how it must fail.
struct Refusal {
  std::vector<std::string> arguments;
  int status = 2;
  std::string message;
};

/// Checks that each command ends with its status, with one line on standard error that contains the
/// message, and with nothing on standard output.
inline void expect_refusals(const std::vector<Refusal>& refusals) {
  std::vector<std::vector<std::string>> commands;
  for (const auto& refusal : refusals) commands.push_back(refusal.arguments);
  const auto results = run_each(commands);
  for (size_t i = 0; i < results.size(); ++i) {
    const auto& result = results[i];
    SCOPED_TRACE(::testing::PrintToString(refusals[i].arguments));
    EXPECT_EQ(result.status, refusals[i].status);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, ::testing::StartsWith("lowrank: "));
    EXPECT_THAT(result.err, ::testing::HasSubstr(refusals[i].message));
    EXPECT_EQ(result.err.find('\n') + 1, result.err.size()) << result.err;
  }
}

}  // namespace lowrank
