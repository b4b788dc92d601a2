#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "support/temporary_folder.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace lowrank {

/// The result of running the lowrank command.
struct CommandResult {
  int status = -1;  // exit status; 128 + the signal if one ended it
  std::string out;  // all of standard output
  std::string err;  // all of standard error
};

/// Runs a program with these arguments (without a shell, with `input` on standard input) and waits
/// until it ends.
inline CommandResult run_program(const std::string& program,
                                 const std::vector<std::string>& arguments,
                                 const std::string& input = "") {
  const TemporaryFolder folder;
  const auto in = folder.write("in", input);
  const auto out = folder / "out";
  const auto err = folder / "err";

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT, 0600);

  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  pid_t child = 0;
  const int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error("cannot start " + words[0]);

  int wait_status = 0;
  if (waitpid(child, &wait_status, 0) != child) throw std::runtime_error("waitpid failed");
  CommandResult result;
  result.status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
  result.out = read_bytes(out);
  result.err = read_bytes(err);
  return result;
}

/// Does the same with the lowrank command that was built.
inline CommandResult run_lowrank(const std::vector<std::string>& arguments,
                                 const std::string& input = "") {
  return run_program(LOWRANK_COMMAND, arguments, input);
}

}  // namespace lowrank
