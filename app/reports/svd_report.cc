#include "app/reports/svd_report.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace lowrank::app {
namespace {

constexpr int64_t kMostRows = 20;     // larger matrices are not printed
constexpr int64_t kMostColumns = 12;  // likewise
constexpr int64_t kMostValues = 12;   // longer lists of singular values or outputs are shortened
constexpr int64_t kFirstValues = 9;   // how many values a shortened list begins with

std::vector<double> numbers(const at::Tensor& x) {
  const auto dense = x.to(at::kCPU, at::kDouble).contiguous();
  const auto* begin = dense.data_ptr<double>();
  return {begin, begin + dense.numel()};
}

bool is_small(const at::Tensor& w) {
  return w.size(0) <= kMostRows && w.size(1) <= kMostColumns && w.numel() > 0;
}

/// Formats numbers in one width: with a point, or with powers of ten if the largest number is too
/// small or too large for that.
std::vector<std::string> aligned(const std::vector<double>& values, int decimals) {
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  const bool fixed = largest == 0 || (largest >= 1e-2 && largest < 1e5);
  std::vector<std::string> texts;
  size_t width = 0;
  for (const double value : values) {
    texts.push_back(fixed ? fmt::format("{:.{}f}", value, decimals)
                          : fmt::format("{:.{}e}", value, decimals));
    width = std::max(width, texts.back().size());
  }
  for (auto& text : texts) text = fmt::format("{:>{}}", text, width);
  return texts;
}

void print_matrix(const at::Tensor& w) {
  constexpr size_t kLine = 80;
  const auto columns = static_cast<size_t>(w.size(1));
  auto texts = aligned(numbers(w), 4);  // as PyTorch prints
  if (columns * (texts.front().size() + 1) > kLine) texts = aligned(numbers(w), 2);
  for (size_t i = 0; i < texts.size(); i += columns) {
    const auto row = texts.begin() + static_cast<std::ptrdiff_t>(i);
    fmt::print(" {}\n", fmt::join(row, row + static_cast<std::ptrdiff_t>(columns), " "));
  }
  fmt::print("\n");
}

void print_line(const std::string& name, const std::string& value) {
  fmt::print("{:<22}{}\n", name, value);
}

void print_singular_values(const at::Tensor& s) {
  const auto values = numbers(s);
  const auto count = static_cast<int64_t>(values.size());
  const int64_t shown = count <= kMostValues ? count : kFirstValues;
  std::string text;
  for (int64_t i = 0; i < shown; ++i) {
    // Five values a line fit into 80 columns.
    if (i > 0 && i % 5 == 0) {
      text.erase(text.find_last_not_of(' ') + 1);
      text += fmt::format("\n{:<22}", "");
    } else if (i > 0) {
      text += ' ';
    }
    text += fmt::format("{:<10.5g}", values[static_cast<size_t>(i)]);
  }
  text.erase(text.find_last_not_of(' ') + 1);
  if (count > shown) {
    text += fmt::format("\n{:<22}... {:.5g} ({} in all)", "", values.back(), count);
  }
  print_line("singular values", count == 0 ? "none" : text);
}

void print_outputs(const SvdReport& report) {
  fmt::print("\nFor a random x and b:\n");
  const auto dense = numbers(report.dense_output);
  const auto factored = numbers(report.factored_output);
  const size_t shown = dense.size() <= kMostValues ? dense.size() : kFirstValues;
  if (shown > 0) fmt::print("{:>16}{:>18}{:>14}\n", "y = Wx + b", "y' = B(Ax) + b", "difference");
  for (size_t i = 0; i < shown; ++i) {
    fmt::print("{:>16.6g}{:>18.6g}{:>14.1e}\n", dense[i], factored[i],
               std::abs(dense[i] - factored[i]));
  }
  if (dense.size() > shown) fmt::print("{:>16} ({} in all)\n", "...", dense.size());
  print_line("largest difference", fmt::format("{:.3g}", report.output_max_difference()));
}

void print_error(const ErrorFigures& error) {
  fmt::print("\nError W - BA, in float64:\n");
  print_line("  Frobenius", fmt::format("{:.4g}", error.frobenius));
  print_line("  relative Frobenius", fmt::format("{:.4g}", error.relative_frobenius));
  print_line("  spectral", fmt::format("{:.4g}", error.spectral));
  print_line("  largest entry", fmt::format("{:.4g}", error.largest_entry));
  print_line("  retained energy", fmt::format("{:.6f} %", 100 * error.retained_energy));
}

std::string with_separators(int64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string parameter_line(const SvdReport& report) {
  const auto dense = static_cast<double>(report.dense_parameters());
  const auto factored = static_cast<double>(report.factored_parameters());
  return fmt::format("{} in W, {} in B and A{}", with_separators(report.dense_parameters()),
                     with_separators(report.factored_parameters()),
                     dense > 0 ? fmt::format(" ({:.3g} %)", 100 * factored / dense) : "");
}

std::string dtype_name(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? "float64" : "float32";
}

/// A matrix as record_of() has it.
nlohmann::ordered_json map_of(const at::Tensor& matrix) {
  constexpr int64_t kMostCells = 32;
  auto rows = nlohmann::ordered_json::array();
  if (matrix.numel() == 0) return rows;
  auto cells = matrix.to(at::kCPU, at::kDouble);
  if (cells.size(0) > kMostCells || cells.size(1) > kMostCells) {
    const auto height = std::min(kMostCells, cells.size(0));
    const auto width = std::min(kMostCells, cells.size(1));
    cells = at::adaptive_avg_pool2d(cells.square().view({1, 1, cells.size(0), cells.size(1)}),
                                    {height, width})
                .sqrt()
                .view({height, width});
  }
  for (int64_t i = 0; i < cells.size(0); ++i) rows.push_back(numbers(cells[i]));
  return rows;
}

}  // namespace

double SvdReport::output_max_difference() const {
  if (dense_output.numel() == 0) return 0;
  return (dense_output - factored_output).abs().max().item<double>();
}

void print_report(const SvdReport& report) {
  const auto& [b, a] = report.factors;
  fmt::print("W = {}\n\n", printable(report.source));
  if (is_small(report.w)) print_matrix(report.w);
  print_line("shape",
             fmt::format("{} x {}, {}", report.w.size(0), report.w.size(1), dtype_name(report.w)));
  const auto k = report.singular_values.size(0);
  print_line("U, S, V^T",
             fmt::format("{} x {}, {}, {} x {}", report.w.size(0), k, k, k, report.w.size(1)));
  print_line("numerical rank", fmt::format("{}", report.numerical_rank));
  print_singular_values(report.singular_values);
  print_line("rank of B and A", fmt::format("{} ({})", report.factors.rank(), report.rule));
  print_line("B", fmt::format("{} x {}, {}", b.size(0), b.size(1),
                              report.balanced ? "U_r sqrt(S_r)" : "U_r S_r"));
  print_line("A", fmt::format("{} x {}, {}", a.size(0), a.size(1),
                              report.balanced ? "sqrt(S_r) V_r^T" : "V_r^T"));
  print_line("parameters", parameter_line(report));
  print_outputs(report);
  print_error(report.error);
  if (report.saved.empty()) return;
  fmt::print("\nSaved lora_B and lora_A to {}\n", printable(report.saved));
}

nlohmann::ordered_json to_json(const SvdReport& report) {
  const auto& [b, a] = report.factors;
  nlohmann::ordered_json json;
  json["source"] = report.source;
  json["shape"] = report.w.sizes().vec();
  json["dtype"] = dtype_name(report.w);
  json["rank"] = report.factors.rank();
  json["rank_rule"] = report.rule;
  json["numerical_rank"] = report.numerical_rank;
  json["singular_values"] = numbers(report.singular_values);
  json["factors"] = {{"b", b.sizes().vec()}, {"a", a.sizes().vec()}, {"balanced", report.balanced}};
  json["parameters"] = {{"dense", report.dense_parameters()},
                        {"factored", report.factored_parameters()}};
  json["error"] = {{"frobenius", report.error.frobenius},
                   {"relative_frobenius", report.error.relative_frobenius},
                   {"spectral", report.error.spectral},
                   {"largest_entry", report.error.largest_entry},
                   {"retained_energy", report.error.retained_energy}};
  json["output_max_difference"] = report.output_max_difference();
  if (is_small(report.w)) {
    auto& matrix = json["matrix"] = nlohmann::ordered_json::array();
    for (int64_t i = 0; i < report.w.size(0); ++i) matrix.push_back(numbers(report.w[i]));
  }
  if (!report.saved.empty()) json["saved"] = report.saved;
  return json;
}

nlohmann::ordered_json record_of(const SvdReport& report) {
  auto json = to_json(report);
  const auto& [b, a] = report.factors;
  const auto rest = report.w.to(at::kDouble) - b.to(at::kDouble).mm(a.to(at::kDouble));
  json["maps"] = {
      {"W", map_of(report.w)}, {"B", map_of(b)}, {"A", map_of(a)}, {"rest", map_of(rest)}};
  return json;
}

}  // namespace lowrank::app
