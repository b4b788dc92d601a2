// Covers adapters that are swapped while other threads run: src/adapter,
// src/effective/switchboard.cc.

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "app/models/mlp.h"
#include "support/dense_reference.h"
#include "support/temporary_folder.h"

// Adapters are swapped and switched while other threads run forwards. `make tsan` runs only this,
// and for longer (LOWRANK_HOT_SWAP_SECONDS).
namespace lowrank {
namespace {

constexpr int kReaders = 4;

double seconds_to_run() {
  const char* text = std::getenv("LOWRANK_HOT_SWAP_SECONDS");
  return text == nullptr ? 0.5 : std::stod(text);
}

/// A net whose adapter "one" has two versions on disk, and the net's output in each state.
class HotSwap : public testing::Test {
 protected:
  HotSwap() {
    at::manual_seed(1);
    model_ = app::Mlp(app::MlpOptions{.sizes = {8, 6, 3}});
    x_ = at::randn({5, 8});
    base_ = output();
    adapter_ = std::make_unique<Adapter>(attach(*model_, {.rank = 2, .alpha = 3}, "one"));
    for (size_t version = 0; version < 2; ++version) {
      randomize(*adapter_);
      answers_[version] = output();
      adapter_->save(folder(version));
    }
    adapter_->add("other", {.rank = 3});
  }

  std::filesystem::path folder(size_t version) const { return folder_ / std::to_string(version); }
  at::Tensor output() {
    const at::NoGradGuard no_grad;
    return model_->forward(x_);
  }

  /// Inside a scope, all layers see the same adapter; outside of one, each operator sees the
  /// newest.
  void read() {
    {
      const auto use = adapter_->use("one");
      const auto y = output();
      const bool first = at::equal(y, answers_[0]), second = at::equal(y, answers_[1]);
      seen_[0] += first;
      seen_[1] += second;
      torn_ += !first && !second;
    }
    {
      const DisableAdapter off(*adapter_);
      torn_ += !at::equal(output(), base_);
    }
    torn_ += !at::isfinite(output()).all().item<bool>();
  }

  void change(size_t step) {
    adapter_->load("one", folder(step % 2), /*replace=*/true);
    adapter_->set_active(step % 3 == 0 ? std::vector<std::string>{"one", "other"}
                                       : std::vector<std::string>{"one"});
    adapter_->set_scale("other", static_cast<double>(step % 5));
    if (step % 7 == 0) adapter_->disable();
    adapter_->enable();
    changes_ += 1;
  }

  TemporaryFolder folder_;
  app::Mlp model_{nullptr};
  at::Tensor x_, base_;
  std::unique_ptr<Adapter> adapter_;
  std::array<at::Tensor, 2> answers_;
  std::array<std::atomic<int64_t>, 2> seen_{};
  std::atomic<int64_t> torn_{0}, changes_{0};
};

TEST_F(HotSwap, EveryAnswerInAScopeIsOneAdaptersOrTheOthers) {
  using Clock = std::chrono::steady_clock;
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&] {
      while (!stop) read();
    });
  }
  const auto end = Clock::now() + std::chrono::duration<double>(seconds_to_run());
  for (size_t step = 0; Clock::now() < end; ++step) change(step);
  stop = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(torn_, 0);
  EXPECT_GT(seen_[0], 0);
  EXPECT_GT(seen_[1], 0);
  RecordProperty("answers", std::to_string(seen_[0] + seen_[1]));
  RecordProperty("changes", std::to_string(changes_));
}

}  // namespace
}  // namespace lowrank
