#include "app/reports/weights_report.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>

#include "app/terminal/message.h"
#include "app/terminal/table.h"

namespace lowrank::app {

void print_report(const WeightsReport& report, const std::string& rule) {
  const auto& layers = report.layers;
  const bool had_ranks = std::any_of(layers.begin(), layers.end(),
                                     [](const auto& layer) { return layer.rank_before > 0; });
  Table table({"layer", "shape", "rank", "|dW|", "error", "relative", "spectral", "energy kept"});
  for (const auto& layer : layers) {
    table.add({layer.name, fmt::format("{} x {}", layer.rows, layer.columns),
               had_ranks ? fmt::format("{} -> {}", layer.rank_before, layer.rank)
                         : fmt::format("{}", layer.rank),
               fmt::format("{:.4g}", layer.norm), fmt::format("{:.4g}", layer.frobenius),
               fmt::format("{:.3e}", layer.relative()), fmt::format("{:.4g}", layer.spectral),
               fmt::format("{:.4f} %", 100 * layer.retained_energy())});
  }
  fmt::print("{}", table.text(terminal_width(stdout)));
  const double relative = report.relative();
  print_text(fmt::format("{} in {}; ranks by {}; relative error {:.3e}, energy kept {:.4f} %.",
                         counted(report.parameters(), "parameter"),
                         counted(static_cast<int64_t>(layers.size()), "layer"), rule, relative,
                         100 * (1 - relative * relative)));
  if (report.unchanged > 0) {
    print_text(fmt::format("{} equal in both models.", counted(report.unchanged, "tensor")));
  }
  if (!report.whole.empty()) {
    print_text(fmt::format("Saved whole, in all {}: {}.",
                           counted(report.whole_numbers, "parameter"), list_names(report.whole)));
  }
  if (!report.skipped.empty()) {
    print_text(fmt::format("Changed and left out: {}.", list_names(report.skipped)));
  }
  if (report.resumed > 0) {
    print_text(fmt::format("{} had been finished before the interruption.",
                           counted(report.resumed, "layer")));
  }
}

}  // namespace lowrank::app
