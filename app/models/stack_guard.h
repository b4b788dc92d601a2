#pragma once

#include <csignal>
#include <string>

namespace lowrank::app {

/// While this exists, the process does not crash if the thread that made it runs out of stack, but
/// ends with `message` on standard error and status 1. LibTorch reads TorchScript recursively, so a
/// file can nest more deeply than any stack; what it nests (brackets, operators, classes, pickles)
/// cannot all be counted beforehand. There may be one at a time.
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
