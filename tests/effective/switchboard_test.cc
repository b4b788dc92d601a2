#include <ATen/Parallel.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/linear.h>

#include <future>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "support/dense_reference.h"

// A scope holds on its own thread, and on LibTorch's threads for the work that starts inside it.
namespace lowrank {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Keeps no activations: its backward repeats the forward, as activation checkpointing does.
struct Checkpoint : torch::autograd::Function<Checkpoint> {
  static inline std::function<at::Tensor(const at::Tensor&, int64_t)> body;

  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, int64_t depth) {
    context->save_for_backward({x});
    context->saved_data["depth"] = depth;
    return body(x, depth);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::AutoGradMode with_history(true);
    const auto x = context->get_saved_variables()[0].detach().requires_grad_();
    body(x, context->saved_data["depth"].toInt()).backward(gradients[0]);
    return {x.grad(), {}};
  }
};

/// A layer whose active adapter is "one", outside of scopes.
class Scopes : public testing::Test {
 protected:
  Scopes() {
    at::manual_seed(1);
    x_ = at::randn({5, 8});
    adapter_ = std::make_unique<Adapter>(attach(*layer_, {.rank = 2}, "one"));
    adapter_->add("two", {.rank = 3});
    for (const auto* name : {"one", "two"}) randomize(*adapter_, name);
    const auto use = adapter_->use("two");
    two_ = output();
    Checkpoint::body = [this](const at::Tensor& x, int64_t /*depth*/) {
      const std::lock_guard lock(mutex_);
      threads_.insert(std::this_thread::get_id());
      return layer_->forward(x);
    };
  }

  at::Tensor output() {
    const at::NoGradGuard no_grad;
    return layer_->forward(x_);
  }
  /// Returns a scalar that depends on x, so that its backward reaches the checkpoint.
  at::Tensor checkpointed(int64_t depth = 0) {
    return Checkpoint::apply(x_.clone().requires_grad_(), depth).sum();
  }
  bool has_gradients(const std::string& name) const {
    for (const auto& p : adapter_->parameters(name)) {
      if (p.grad().defined()) return true;
    }
    return false;
  }

  torch::nn::Linear layer_{8, 6};
  at::Tensor x_, two_;
  std::unique_ptr<Adapter> adapter_;
  std::mutex mutex_;
  std::set<std::thread::id> threads_;
};

TEST_F(Scopes, HoldForWhatIsLaunchedWithin) {
  std::promise<at::Tensor> launched;
  std::promise<std::thread::id> thread;
  {
    const auto use = adapter_->use("two");
    at::launch([&] {
      thread.set_value(std::this_thread::get_id());
      launched.set_value(output());
    });
  }
  EXPECT_TRUE(at::equal(launched.get_future().get(), two_));
  EXPECT_NE(thread.get_future().get(), std::this_thread::get_id());
}

TEST_F(Scopes, HoldForBackwardPassesBegunWithin) {
  const auto use = adapter_->use("two");
  checkpointed().backward();
  EXPECT_TRUE(has_gradients("two"));
  EXPECT_FALSE(has_gradients("one"));
}

/// When more than 60 backward passes are nested, LibTorch continues on other threads.
TEST_F(Scopes, HoldForBackwardPassesOnOtherThreads) {
  Checkpoint::body = [this](const at::Tensor& x, int64_t depth) {
    if (depth > 0) return Checkpoint::apply(x, depth - 1);
    const std::lock_guard lock(mutex_);
    threads_.insert(std::this_thread::get_id());
    return layer_->forward(x);
  };
  const auto use = adapter_->use("two");
  checkpointed(/*depth=*/70).backward();
  EXPECT_GT(threads_.size(), 1U);
  EXPECT_TRUE(has_gradients("two"));
  EXPECT_FALSE(has_gradients("one"));
}

/// A forward that has run keeps its adapter; a forward that backward repeats takes the adapter that
/// holds then.
TEST_F(Scopes, EndForWhatBackwardComputesAnew) {
  at::Tensor plain, anew;
  {
    const auto use = adapter_->use("two");
    plain = layer_->forward(x_).sum();
    anew = checkpointed();
  }
  plain.backward();
  EXPECT_TRUE(has_gradients("two"));
  EXPECT_FALSE(has_gradients("one"));
  std::thread([&] {
    const auto use = adapter_->use("one");
    anew.backward();
  }).join();
  EXPECT_TRUE(has_gradients("one"));
}

TEST_F(Scopes, MayEndInAnyOrder) {
  const auto one = output();
  std::optional<AdapterScope> outer, inner;
  outer.emplace(adapter_->use({}));
  const auto base = output();
  inner.emplace(adapter_->use("two"));
  outer.reset();
  EXPECT_TRUE(at::equal(output(), two_));
  inner.reset();
  EXPECT_TRUE(at::equal(output(), one));

  outer.emplace(adapter_->use("two"));
  inner.emplace(adapter_->use({}));
  std::optional<AdapterScope> innermost(adapter_->use("two"));
  inner.reset();
  EXPECT_TRUE(at::equal(output(), two_));
  innermost.reset();
  EXPECT_TRUE(at::equal(output(), two_)) << "of the outer scope";
  outer.reset();
  EXPECT_TRUE(at::equal(output(), one));
  EXPECT_FALSE(at::equal(base, one));
}

/// Profilers and the like keep their own information in the same chain of LibTorch's.
TEST_F(Scopes, EndInsideOfOtherDebugInformation) {
  const auto one = output();
  std::optional<AdapterScope> scope(adapter_->use("two"));
  {
    const c10::DebugInfoGuard other(c10::DebugInfoKind::TEST_INFO,
                                    std::make_shared<c10::DebugInfoBase>());
    scope.reset();
    EXPECT_TRUE(at::equal(output(), one));
  }
  EXPECT_TRUE(at::equal(output(), one));
  const auto use = adapter_->use("two");
  EXPECT_TRUE(at::equal(output(), two_));
}

TEST_F(Scopes, CanBeMoved) {
  const auto one = output();
  {
    std::vector<AdapterScope> scopes;
    scopes.push_back(adapter_->use({}));
    scopes.push_back(adapter_->use("two"));
    EXPECT_TRUE(at::equal(output(), two_));
    const DisableAdapter off(*adapter_);
    EXPECT_FALSE(at::equal(output(), two_));
  }
  EXPECT_TRUE(at::equal(output(), one));
}

}  // namespace
}  // namespace lowrank
