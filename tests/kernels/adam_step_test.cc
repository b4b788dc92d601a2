#include "kernels/adam_step.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <random>

#include "kernels/products.h"

namespace lowrank::kernels {
namespace {

constexpr AdamStep kStep = {
    .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .step_size = 0.02, .root_correction2 = 0.3};

/// A weight with its moments, and a gradient that is the product dyᵀ·x.
struct StepProblem {
  at::Tensor p, m, v, dy, x;

  StepProblem(int64_t rows, int64_t columns, int64_t depth)
      : p(at::randn({rows, columns})),
        m(at::randn({rows, columns})),
        v(at::rand({rows, columns})),
        dy(at::randn({depth, rows})),
        x(at::randn({depth, columns})) {}

  ThinProduct gradient() const { return thin_product({.x = dy.t(), .w = x}); }
};

void step_of_product(const StepProblem& problem, const KernelTable& kernels) {
  adam_step(problem.p.data_ptr<float>(), problem.m.data_ptr<float>(), problem.v.data_ptr<float>(),
            problem.gradient(), kStep, kernels);
}

/// Forms the whole product, then takes the step.
void step_of_formed(const StepProblem& problem, const KernelTable& kernels) {
  auto formed = at::empty_like(problem.p);
  auto product = problem.gradient();
  product.y = formed.data_ptr<float>();
  product.y_row = product.columns;
  multiply(product, kernels);
  kernels.adam_step_float(problem.p.data_ptr<float>(), formed.data_ptr<float>(),
                          problem.m.data_ptr<float>(), problem.v.data_ptr<float>(), formed.numel(),
                          kStep);
}

double error(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

TEST(AdamStep, OfAProductIsThatOfTheFormedGradient) {
  std::mt19937 random(3);
  at::manual_seed(3);
  const auto up_to = [&](int64_t most) { return static_cast<int64_t>(random() % (most + 1)); };
  for (int i = 0; i < 60; ++i) {
    const auto columns = i % 3 == 0 ? 2000 + up_to(3000) : up_to(200);
    const StepProblem problem(up_to(40), columns, up_to(20));
    if (i % 8 == 0) {  // dy is denormal, but its products with x would not be
      at::Tensor(problem.dy).mul_(1e-39);
      at::Tensor(problem.x).mul_(1e4);
      at::Tensor(problem.m).zero_();
    }
    for (const auto set : supported_instruction_sets()) {
      StepProblem folded = problem, formed = problem;
      for (auto* one : {&folded, &formed}) {
        for (auto* tensor : {&one->p, &one->m, &one->v}) *tensor = tensor->clone();
      }
      const auto& kernels = kernel_table(set);
      step_of_product(folded, kernels);
      step_of_formed(formed, kernels);
      EXPECT_TRUE(at::equal(folded.p, formed.p)) << i << " " << name_of(set);
      EXPECT_TRUE(at::equal(folded.m, formed.m)) << i << " " << name_of(set);
      EXPECT_TRUE(at::equal(folded.v, formed.v)) << i << " " << name_of(set);
    }
  }
}

TEST(AdamStep, OfAProductIsThatOfTheDefinition) {
  at::manual_seed(4);
  const StepProblem problem(70, 900, 10);
  const auto g = at::mm(problem.dy.to(at::kDouble).t(), problem.x.to(at::kDouble));
  const auto m = kStep.beta1 * problem.m.to(at::kDouble) + (1 - kStep.beta1) * g;
  const auto v = kStep.beta2 * problem.v.to(at::kDouble) + (1 - kStep.beta2) * g * g;
  const auto p = problem.p.to(at::kDouble) -
                 kStep.step_size * m / (v.sqrt() / kStep.root_correction2 + kStep.epsilon);
  const auto threads = at::get_num_threads();
  at::set_num_threads(2);
  step_of_product(problem, kernel_table());
  at::set_num_threads(threads);
  EXPECT_LT(error(problem.p, p), 1e-6);
  EXPECT_LT(error(problem.m, m), 1e-6);
  EXPECT_LT(error(problem.v, v), 1e-6);
}

}  // namespace
}  // namespace lowrank::kernels
