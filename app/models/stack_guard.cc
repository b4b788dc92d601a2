#include "app/models/stack_guard.h"

#include <lowrank/io/printable.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace lowrank::app {
namespace {

constexpr size_t kHandlerStack = size_t{1} << 16;
/// How far below the stack's end a first access may lie: a function with large local variables
/// skips some pages.
constexpr uintptr_t kBelow = uintptr_t{1} << 20;

/// What the handler needs, since it is given nothing.
struct {
  std::string message;
  uintptr_t lowest = 0, highest = 0;  // of the stack, with what lies just below it
} guarded;

/// Only async-signal-safe calls are possible here. A fault elsewhere is a fault of the program, and
/// happens again with the default action.
void on_fault(int signal, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  if (address < guarded.lowest || address > guarded.highest) {
    std::signal(signal, SIG_DFL);
    return;
  }
  [[maybe_unused]] const auto written =
      ::write(STDERR_FILENO, guarded.message.data(), guarded.message.size());
  std::_Exit(1);
}

void find_stack() {
  pthread_attr_t attributes;
  void* begin = nullptr;
  size_t size = 0;
  if (::pthread_getattr_np(::pthread_self(), &attributes) == 0) {
    ::pthread_attr_getstack(&attributes, &begin, &size);
    ::pthread_attr_destroy(&attributes);
  }
  guarded.highest = reinterpret_cast<uintptr_t>(begin) + size;
  guarded.lowest = reinterpret_cast<uintptr_t>(begin) - kBelow;
}

}  // namespace

StackGuard::StackGuard(const std::string& message) : own_stack_(kHandlerStack, '\0') {
  guarded.message = "lowrank: " + printable(message) + "\n";
  find_stack();
  stack_t stack = {};
  stack.ss_sp = own_stack_.data();
  stack.ss_size = own_stack_.size();
  ::sigaltstack(&stack, &stack_before_);
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, &action_before_);
}

StackGuard::~StackGuard() {
  ::sigaction(SIGSEGV, &action_before_, nullptr);
  ::sigaltstack(&stack_before_, nullptr);
}

}  // namespace lowrank::app
