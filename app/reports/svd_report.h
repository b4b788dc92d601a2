#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/factorize.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace lowrank::app {

/// Everything that `lowrank svd` found out about one matrix.
struct SvdReport {
  std::string source;          // describes where W comes from
  at::Tensor w;                // (m, n)
  at::Tensor singular_values;  // (k)
  int64_t numerical_rank = 0;
  std::string rule;  // how the rank was chosen: "numerical", "--energy 0.99"
  bool balanced = false;
  Factors factors;
  at::Tensor dense_output;     // y = Wx + b, (m)
  at::Tensor factored_output;  // y' = B(Ax) + b, (m)
  ErrorFigures error;
  std::string saved;  // the file that was written, or empty

  double output_max_difference() const;
  int64_t dense_parameters() const { return w.size(0) * w.size(1); }
  int64_t factored_parameters() const { return factors.rank() * (w.size(0) + w.size(1)); }
};

/// Prints the report as text; long lists are shortened, and large matrices are left out.
void print_report(const SvdReport& report);

/// Returns all figures, and the matrix if it is small enough to be printed.
nlohmann::ordered_json to_json(const SvdReport& report);

/// The name of the file that holds record_of() of a report, for `lowrank report`.
constexpr const char* kSvdFile = "svd.json";

/// Returns to_json(), with "maps": W, B, A and W - B·A as matrices {"W": [[...], ...], ...}. Of a
/// side longer than 32 there are 32 parts, and a cell is the root mean square of its part.
nlohmann::ordered_json record_of(const SvdReport& report);

}  // namespace lowrank::app
