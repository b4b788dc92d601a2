#include "adapter/init/eva_sketch.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <cmath>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"
#include "support/tolerances.h"

namespace lowrank::init {
namespace {

/// Returns inputs (rows, in) with a decaying spectrum around a mean that is far from zero.
at::Tensor inputs(int64_t rows, int64_t in, double decay) {
  at::manual_seed(0);
  const auto directions = basis(at::randn({in, in}, at::kDouble));
  const auto sizes = at::pow(decay, at::arange(in, at::kDouble));
  return (at::randn({rows, in}, at::kDouble) * sizes).mm(directions.t()) +
         at::linspace(-3, 5, in, at::kDouble);
}

struct Exact {
  at::Tensor components, singular_values, ratios;
};

Exact principal_components(const at::Tensor& x) {
  const auto [u, s, vt] = at::linalg_svd(x - x.mean(0), /*full_matrices=*/false);
  return {vt, s, s.square() / s.square().sum()};
}

void expect_exact(const EvaSketch& sketch, const at::Tensor& x, int64_t rank) {
  const auto exact = principal_components(x);
  const auto components = sketch.components(rank);
  EXPECT_LE(distance_from_identity(components.mm(components.t())),
            tolerance(at::kDouble, x.size(1)).decomposition);
  for (int64_t k = 1; k <= rank; ++k) {
    EXPECT_LT(sine(components.slice(0, 0, k).t(), exact.components.slice(0, 0, k).t()), 1e-3);
  }
  const auto first = [&](const at::Tensor& values) { return values.slice(0, 0, rank); };
  EXPECT_LE(difference(first(sketch.singular_values()), first(exact.singular_values)), 1e-3);
  EXPECT_LE(difference(first(sketch.explained_variance_ratios()), first(exact.ratios)), 1e-3);
}

TEST(EvaSketch, OneBatchGivesThePrincipalComponents) {
  const auto x = inputs(50, 30, 0.9);
  EvaSketch sketch(6);
  sketch.add(x.to(at::kFloat).view({5, 10, 30}));
  EXPECT_EQ(sketch.samples(), 50);
  EXPECT_EQ(sketch.available(), 6);
  expect_exact(sketch, x, 6);
}

TEST(EvaSketch, BatchesOfAnySizeGiveThoseOfAllInputs) {
  const auto x = inputs(400, 30, 0.7);
  EvaSketch sketch(6);
  int64_t begin = 0;
  for (const int64_t rows : {1, 90, 2, 7, 200, 0, 100}) {
    sketch.add(x.slice(0, begin, begin + rows));
    begin += rows;
  }
  EXPECT_EQ(sketch.samples(), begin);
  expect_exact(sketch, x, 6);
}

TEST(EvaSketch, LargeBatchesAreDecomposedAtRandomAndRepeatably) {
  const auto x = inputs(1400, 600, 0.8);
  const auto sketched = [&] {
    EvaSketch sketch(6);
    sketch.add(x.slice(0, 0, 700));
    sketch.add(x.slice(0, 700));
    return sketch;
  };
  at::manual_seed(1);
  const auto expected_draw = at::rand({1}).item<float>();
  at::manual_seed(1);
  const auto sketch = sketched();
  EXPECT_EQ(at::rand({1}).item<float>(), expected_draw) << "the default generator was used";
  expect_exact(sketch, x, 6);
  EXPECT_TRUE(at::equal(sketch.components(6), sketched().components(6)));
}

TEST(EvaSketch, ComponentsHaveAFixedSign) {
  EvaSketch sketch(5);
  sketch.add(inputs(40, 12, 0.8));
  const auto components = sketch.components(5);
  EXPECT_TRUE(at::equal(components.amax(1), components.abs().amax(1)));
}

TEST(EvaSketch, HasAsManyComponentsAsItsInputsAllow) {
  EvaSketch sketch(6);
  EXPECT_EQ(sketch.available(), 0);
  EXPECT_EQ(sketch.singular_values().size(0), 0);
  sketch.add(inputs(3, 12, 0.8));
  EXPECT_EQ(sketch.available(), 3);
  sketch.add(inputs(20, 12, 0.8));
  EXPECT_EQ(sketch.available(), 6);
  EvaSketch narrow(6);
  narrow.add(inputs(20, 4, 0.8));
  EXPECT_EQ(narrow.available(), 4);
}

TEST(EvaSketch, ConstantInputsExplainNothing) {
  EvaSketch sketch(2);
  sketch.add(at::ones({10, 4}));
  sketch.add(at::ones({10, 4}));
  EXPECT_EQ(length(sketch.explained_variance_ratios()), 0);
}

TEST(EvaSketch, ConvergesWhereBatchesAgree) {
  const auto x = inputs(4000, 12, 0.5);
  EvaSketch sketch(3);
  sketch.add(x.slice(0, 0, 1000));
  EXPECT_FALSE(sketch.converged(3, 0)) << "there is nothing to compare with";
  sketch.add(x.slice(0, 1000, 2000));
  EXPECT_TRUE(sketch.converged(3, 0.99));
  sketch.add(inputs(4000, 12, 0.5).flip(1) * 100);  // other directions, with far larger numbers
  EXPECT_FALSE(sketch.converged(3, 0.99));
}

TEST(EvaSketch, RefusesWhatCannotBe) {
  LOWRANK_EXPECT_ERROR(EvaSketch(0), ArgumentError,
                       "[eva] the number of components must be at least 1. Got 0.");
  EvaSketch sketch(6);
  sketch.add(inputs(3, 12, 0.8));
  LOWRANK_EXPECT_ERROR(sketch.components(4), ArgumentError,
                       "[eva] the rank must be at most 3, the number of components of 3 inputs. "
                       "Got 4.");
  LOWRANK_EXPECT_ERROR(sketch.add(at::ones({3, 5})), TensorError,
                       "[eva] every batch must have 12 inputs a row. Got 5.");
  LOWRANK_EXPECT_ERROR(sketch.add(at::ones({3, 12}) * std::nan("")), TensorError,
                       "[eva] a batch of inputs must hold only finite numbers. Got 36 NaN");
}

}  // namespace
}  // namespace lowrank::init
