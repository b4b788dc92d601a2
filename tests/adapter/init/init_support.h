#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <string>

#include "adapter/init/factor_pair.h"

/// Helpers for the tests of the initialisations. All norms are computed in float64.
namespace lowrank::init {

inline double length(const at::Tensor& x) { return x.to(at::kDouble).norm().item<double>(); }

/// Returns ‖found − expected‖ / ‖expected‖.
inline double difference(const at::Tensor& found, const at::Tensor& expected) {
  return length(found.to(at::kDouble) - expected.to(at::kDouble)) / length(expected);
}

inline at::Tensor product(const FactorPair& pair) {
  return pair.b.to(at::kDouble).mm(pair.a.to(at::kDouble));
}

/// Returns an orthonormal basis (n, k) of the span of the k columns.
inline at::Tensor basis(const at::Tensor& columns) {
  return std::get<0>(at::linalg_qr(columns.to(at::kDouble)));
}

/// Returns the sine of the largest angle between the spans of two sets of equally many columns.
inline double sine(const at::Tensor& columns, const at::Tensor& others) {
  const auto q = basis(columns);
  const auto p = basis(others);
  return at::linalg_svdvals(q - p.mm(p.t().mm(q)))[0].item<double>();
}

inline double distance_from_identity(const at::Tensor& gram) {
  return length(gram.to(at::kDouble) - at::eye(gram.size(0), at::kDouble));
}

/// Returns a float64 matrix (rows, columns) with the singular values 1, decay, decay², ...
inline at::Tensor decaying(int64_t rows, int64_t columns, double decay) {
  const int64_t k = std::min(rows, columns);
  const auto u = basis(at::randn({rows, k}, at::kDouble));
  const auto v = basis(at::randn({columns, k}, at::kDouble));
  return (u * at::pow(decay, at::arange(k, at::kDouble))).mm(v.t());
}

/// Returns ‖W − its best approximation of that rank‖_F.
inline double truncation_error(const at::Tensor& w, int64_t rank) {
  return length(at::linalg_svdvals(w.to(at::kDouble)).slice(0, rank));
}

/// The factors that PEFT made from one weight (8, 12), gradient and covariance with one seed
/// (tests/reference/make_adapter_fixtures.py).
class PeftFactors {
 public:
  at::Tensor weight() const { return file_.tensor("weight"); }
  at::Tensor gradient() const { return file_.tensor("gradient"); }
  at::Tensor covariance() const { return file_.tensor("covariance"); }

  FactorPair of(const std::string& method) const {
    return {.a = file_.tensor(method + ".lora_A"), .b = file_.tensor(method + ".lora_B")};
  }

  /// Puts LibTorch's generator into the state that PEFT's had when an initialisation of this rank
  /// began.
  void seed(int64_t rank) const {
    at::manual_seed(std::stoull(file_.metadata().at("seed")));
    discard_linear_draws(weight().size(1), weight().size(0), rank);
  }

 private:
  SafetensorsFile file_ = SafetensorsFile::open(LOWRANK_FIXTURES "/init_methods.safetensors");
};

}  // namespace lowrank::init
