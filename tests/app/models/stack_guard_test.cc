#include "app/models/stack_guard.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <csignal>

namespace lowrank::app {
namespace {

/// Uses the whole stack. What it returns is the sum of what it has put there, so that no compiler
/// turns it into a loop.
int recurse(int depth) {
  std::array<volatile int, 256> filled{};
  filled.back() = depth;
  return depth < 0 ? 0 : recurse(depth + 1) + filled.back();
}

TEST(StackGuard, SaysWhatUsedTheStackUp) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        const StackGuard guard("the file \x1b nests too deeply.");
        std::exit(recurse(0) == 1 ? 2 : 3);
      },
      testing::ExitedWithCode(1), "^lowrank: the file \\\\x1b nests too deeply.\n$");
}

/// Any other fault is one of the program's own, and must look like one.
TEST(StackGuard, HidesNoOtherFault) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  void* forbidden = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(forbidden, MAP_FAILED);
  EXPECT_EXIT(
      {
        const StackGuard guard("the file nests too deeply.");
        std::exit(*static_cast<volatile char*>(forbidden));
      },
      testing::KilledBySignal(SIGSEGV), "^$");
  ::munmap(forbidden, 4096);
}

TEST(StackGuard, PutsBackWhatItReplaced) {
  struct sigaction before = {}, after = {};
  ::sigaction(SIGSEGV, nullptr, &before);
  { const StackGuard guard("message"); }
  ::sigaction(SIGSEGV, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

}  // namespace
}  // namespace lowrank::app
