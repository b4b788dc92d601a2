#pragma once

#include <csignal>
#include <string>

namespace lowrank::app {

/// While this exists, a thread that runs out of stack ends the process with `message` on standard
/// error and status 1, in place of a crash. LibTorch reads TorchScript recursively, so a file can
/// nest more deeply than any stack; what it nests (brackets, operators, classes, pickles) cannot
/// all be counted beforehand. Made and destroyed in the thread that does the work; one at a time.
class StackGuard {
 public:
  explicit StackGuard(const std::string& message);
  ~StackGuard();
  StackGuard(const StackGuard&) = delete;
  StackGuard& operator=(const StackGuard&) = delete;

 private:
  std::string own_stack_;  // the handler's, since the thread's is used up
  stack_t stack_before_ = {};
  struct sigaction action_before_ = {};
};

}  // namespace lowrank::app
