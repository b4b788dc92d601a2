#include "kernels/parallel.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace lowrank::kernels {
namespace {

class ParallelFor : public testing::Test {
 protected:
  ParallelFor() { at::set_num_threads(3); }
  ~ParallelFor() override { at::set_num_threads(before_); }

 private:
  int before_ = at::get_num_threads();
};

TEST_F(ParallelFor, TakesEachIndexOnceAndUsesThreads) {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::vector<int> taken(100, 0);
  parallel_for(0, 100, 10, [&](int64_t begin, int64_t end) {
    for (auto i = begin; i < end; ++i) ++taken[static_cast<size_t>(i)];
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(taken, std::vector<int>(100, 1));
  EXPECT_EQ(threads.size(), 3U);
}

TEST_F(ParallelFor, StaysOnThisThreadBelowTheGrain) {
  int calls = 0;
  parallel_for(5, 15, 10, [&](int64_t begin, int64_t end) {
    ++calls;
    EXPECT_EQ(begin, 5);
    EXPECT_EQ(end, 15);
  });
  EXPECT_EQ(calls, 1);
}

TEST_F(ParallelFor, GivesOnWhatIsThrown) {
  EXPECT_THROW(parallel_for(0, 100, 1, [](int64_t, int64_t) { throw std::runtime_error("no"); }),
               std::runtime_error);
}

}  // namespace
}  // namespace lowrank::kernels
