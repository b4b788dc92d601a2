#include <lowrank/nn/linear_relu.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/optim/accelerate.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "app/models/mlp.h"

namespace lowrank::nn {
namespace {

/// A linear layer in one of the states that it may be in during a forward.
struct Subject {
  torch::nn::Linear layer{nullptr};
  std::optional<Adapter> adapter = {};
  std::optional<Acceleration> fast = {};

  explicit Subject(bool bias = true) {
    at::manual_seed(3);
    layer = torch::nn::Linear(torch::nn::LinearOptions(20, 70).bias(bias));
  }

  void attach(LoraConfig config = {}) {
    config.rank = 3;
    adapter = lowrank::attach(*layer, config);
    const at::NoGradGuard no_grad;
    for (const auto& parameter : adapter->parameters()) at::Tensor(parameter).normal_();
  }
  /// Returns all tensors that get gradients.
  std::vector<at::Tensor> inputs(const at::Tensor& x) const {
    std::vector<at::Tensor> all = {x};
    for (const auto& parameter : layer->parameters()) {
      if (parameter.requires_grad()) all.push_back(parameter);
    }
    if (!adapter || !adapter->enabled() || adapter->merged()) return all;
    for (const auto& name : adapter->active()) {
      for (const auto& parameter : adapter->parameters(name)) all.push_back(parameter);
    }
    return all;
  }
};

struct State {
  const char* name;
  const char* node;  ///< name of the output's autograd node
  void (*prepare)(Subject& subject);
};

constexpr std::array<State, 10> kStates = {{
    {"plain", "ReluBackward0", [](Subject& /*subject*/) {}},
    {"adapted", "LoraLinearBackward", [](Subject& subject) { subject.attach(); }},
    {"accelerated", "LinearBackward",
     [](Subject& subject) { subject.fast = accelerate(*subject.layer); }},
    {"off", "ReluBackward0",
     [](Subject& subject) {
       subject.attach();
       subject.adapter->disable();
     }},
    {"off and accelerated", "LinearBackward",
     [](Subject& subject) {
       subject.fast = accelerate(*subject.layer);
       subject.attach();
       subject.adapter->disable();
     }},
    {"merged", "ReluBackward0",
     [](Subject& subject) {
       subject.attach();
       subject.adapter->merge();
     }},
    {"DoRA", "ReluBackward0", [](Subject& subject) { subject.attach({.use_dora = true}); }},
    {"trained bias", "LoraLinearBackward",
     [](Subject& subject) { subject.attach({.bias = BiasMode::kAll}); }},
    {"two adapters", "ReluBackward0",
     [](Subject& subject) {
       subject.attach();
       subject.adapter->add("other", {.rank = 2});
       subject.adapter->set_active({"default", "other"});
     }},
    {"float64", "ReluBackward0",
     [](Subject& subject) {
       subject.attach();
       subject.layer->to(at::kDouble);
     }},
}};

at::Tensor apart(torch::nn::Linear& layer, const at::Tensor& x) {
  return at::relu(layer->forward(x));
}

/// Compares outputs, gradients and second gradients, bit for bit.
void expect_equal(Subject& subject, const at::Tensor& x) {
  const auto y = linear_relu(*subject.layer, x), expected = apart(subject.layer, x);
  EXPECT_TRUE(at::equal(y, expected));
  const auto slope = at::randn_like(y);
  const auto inputs = subject.inputs(x);
  const auto gradients = [&](const at::Tensor& output, bool again) {
    const auto first =
        torch::autograd::grad({(output * slope).sum()}, inputs, {}, /*retain_graph=*/true, again);
    if (!again) return first;
    auto sum = first[0].square().sum();
    for (size_t i = 1; i < first.size(); ++i) sum = sum + first[i].square().sum();
    return torch::autograd::grad({sum}, inputs, {}, true, false, /*allow_unused=*/true);
  };
  for (const bool again : {false, true}) {
    const auto found = gradients(y, again), wanted = gradients(expected, again);
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].defined(), wanted[i].defined()) << i;
      const bool same = !found[i].defined() || at::equal(found[i], wanted[i]);
      EXPECT_TRUE(same) << i << (again ? ", again" : "");
    }
  }
}

TEST(LinearRelu, IsTheLayerAndReluInEveryState) {
  for (const auto& state : kStates) {
    SCOPED_TRACE(state.name);
    for (const bool bias : {true, false}) {
      Subject subject(bias);
      state.prepare(subject);
      const auto options = at::device(at::kCPU).dtype(subject.layer->weight.scalar_type());
      for (const auto& shape : std::vector<std::vector<int64_t>>{{5, 20}, {2, 3, 20}, {20}}) {
        expect_equal(subject, at::randn(shape, options).requires_grad_());
      }
      const auto x = at::randn({5, 20}, options).requires_grad_();
      EXPECT_EQ(linear_relu(*subject.layer, x).grad_fn()->name(), state.node);
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(linear_relu(*subject.layer, x), apart(subject.layer, x)));
      const auto none = linear_relu(*subject.layer, at::empty({0, 20}, options));
      EXPECT_EQ(none.sizes(), at::IntArrayRef({0, 70}));
    }
  }
}

TEST(LinearRelu, GivesEachRowOfAMixedBatchItsAdapter) {
  Subject subject;
  subject.attach();
  const auto x = at::randn({3, 20});
  const at::NoGradGuard no_grad;
  const auto adapted = linear_relu(*subject.layer, x);
  const auto rows = subject.adapter->use_rows({"", "default", ""});
  const auto y = linear_relu(*subject.layer, x);
  EXPECT_TRUE(at::equal(y, apart(subject.layer, x)));
  EXPECT_TRUE(at::allclose(y[1], adapted[1]));
  EXPECT_FALSE(at::allclose(y[0], adapted[0]));
}

TEST(LinearRelu, CountsAsAForwardOfTheLayer) {
  app::Mlp model(app::MlpOptions{.sizes = {20, 30, 7}});
  const auto adapter = attach(*model, {.rank = 1});
  EXPECT_EQ(adapter.unreached_layers().size(), 2U);
  model->forward(at::randn({2, 20}));
  EXPECT_TRUE(adapter.unreached_layers().empty());
}

TEST(LinearRelu, NoticesThatItsOutputWasChanged) {
  Subject subject;
  subject.attach();
  const auto y = linear_relu(*subject.layer, at::randn({4, 20}));
  y.add_(1);
  EXPECT_THROW(y.sum().backward(), c10::Error);
}

TEST(LinearRelu, KeepsNoOutputAlive) {
  Subject subject;
  subject.attach();
  const c10::weak_intrusive_ptr<at::TensorImpl> weak(
      linear_relu(*subject.layer, at::randn({4, 20})).getIntrusivePtr());
  EXPECT_TRUE(weak.expired());
}

TEST(LinearRelu, IsTracedOperatorByOperator) {
  using torch::jit::Stack;
  for (const auto& state : kStates) {
    SCOPED_TRACE(state.name);
    Subject subject;
    state.prepare(subject);
    for (const auto& parameter : subject.inputs({})) {
      if (parameter.defined())
        at::Tensor(parameter).requires_grad_(false);  // tracing takes it as a constant
    }
    const auto x = at::randn({5, 20}).to(subject.layer->weight.scalar_type());
    const auto traced = torch::jit::tracer::trace(
        {x},
        [&](Stack stack) -> Stack { return {linear_relu(*subject.layer, stack[0].toTensor())}; },
        [](const at::Tensor&) { return std::string(); });
    const auto graph = traced.first->graph->toString();
    EXPECT_NE(graph.find("aten::relu"), std::string::npos) << graph;
  }
}

}  // namespace
}  // namespace lowrank::nn
