#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/run_command.h"

namespace lowrank {

/// A lowrank command that is running and can be interrupted.
class RunningCommand {
 public:
  explicit RunningCommand(const std::vector<std::string>& arguments) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const auto& [number, name] : {std::pair(STDOUT_FILENO, "out"), {STDERR_FILENO, "err"}}) {
      const auto path = folder_ / name;
      posix_spawn_file_actions_addopen(&actions, number, path.c_str(), O_WRONLY | O_CREAT, 0600);
    }
    std::vector<std::string> words = {LOWRANK_COMMAND};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const int failed = posix_spawn(&child_, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) throw std::runtime_error("cannot start " + words[0]);
  }
  ~RunningCommand() {
    if (child_ == 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  pid_t process() const { return child_; }

  /// Waits until `reached` returns true, then sends the signal (0: none) and waits for the end. The
  /// status is 0 if the command succeeded before that.
  CommandResult stop(int signal, const std::function<bool()>& reached) {
    int status = 0;
    while (!reached()) {
      if (::waitpid(child_, &status, WNOHANG) == child_) return ended(status);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ::kill(child_, signal);
    if (::waitpid(child_, &status, 0) != child_) throw std::runtime_error("waitpid failed");
    return ended(status);
  }

 private:
  CommandResult ended(int status) {
    child_ = 0;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            read_bytes(folder_ / "out"), read_bytes(folder_ / "err")};
  }

  TemporaryFolder folder_;
  pid_t child_ = 0;
};

}  // namespace lowrank
