#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/weights/compare.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/models/weights_file.h"
#include "app/reports/spectrum_table.h"
#include "app/terminal/message.h"
#include "app/terminal/progress.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

struct CompareCommand {
  app::CommonOptions common;
  std::string base, tuned;
  bool spectrum = false;
};

constexpr auto kCompareExamples = R"(Examples:
  lowrank compare base/ tuned/
  lowrank compare base.safetensors tuned.safetensors --spectrum)";

void print(const Comparison& comparison, bool with_spectrum) {
  std::vector<std::string> header = {"tensor", "shape", "norm", "|difference|"};
  // With the spectrum, more would not fit 80 columns.
  if (!with_spectrum) header.insert(header.end(), {"relative", "largest"});
  const auto columns = app::spectrum_header();
  if (with_spectrum) header.insert(header.end(), columns.begin(), columns.end());
  app::Table table(header);
  for (const auto& tensor : comparison.changed) {
    std::vector<std::string> row = {tensor.name, fmt::format("({})", fmt::join(tensor.shape, ", ")),
                                    fmt::format("{:.4g}", tensor.norm),
                                    fmt::format("{:.4g}", tensor.difference)};
    if (!with_spectrum) {
      row.push_back(fmt::format("{:.3e}", tensor.relative()));
      row.push_back(fmt::format("{:.4g}", tensor.largest));
    } else {
      app::add_spectrum_cells(
          row, tensor.spectrum ? to_json(*tensor.spectrum) : nlohmann::ordered_json());
    }
    table.add(row);
  }
  if (!comparison.changed.empty()) fmt::print("{}", table.text(app::terminal_width(stdout)));
  const bool shares_none =
      comparison.changed.empty() && comparison.equal == 0 && comparison.reshaped.empty();
  if (shares_none) app::print_text("The two models have no tensor in common.");
  app::print_text(fmt::format(
      "{} changed, {} equal.",
      app::counted(static_cast<int64_t>(comparison.changed.size()), "tensor"), comparison.equal));
  for (const auto& [what, names] : {std::pair("Only in the base: {}.", comparison.only_base),
                                    {"Only in the other: {}.", comparison.only_tuned},
                                    {"Of another shape: {}.", comparison.reshaped}}) {
    if (!names.empty())
      app::print_text(fmt::format(fmt::runtime(what), printable(list_names(names))));
  }
}

void run_compare(const CompareCommand& command) {
  app::apply_common_options(command.common);
  const auto base = app::open_weights(command.base), tuned = app::open_weights(command.tuned);
  Comparison comparison;
  {
    app::Progress progress("compare", 0, "tensors", command.common.quiet);
    comparison = compare_checkpoints(
        base, tuned, {.spectra = command.spectrum, .on_tensor = progress.counter()});
    progress.finish();
  }
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(comparison)));
  } else {
    print(comparison, command.spectrum);
  }
}

}  // namespace

void add_compare(const Flags& flags) {
  auto command = std::make_shared<CompareCommand>();
  const auto compare = flags.command("compare", "Show how two models' weights differ");
  compare.option("base", &command->base, "A file of weights, or a folder as transformers writes")
      .type_name("BASE")
      .required();
  compare.option("tuned", &command->tuned, "The other model").type_name("TUNED").required();
  compare.flag("--spectrum", command->spectrum,
               "Decompose the difference of each weight, and show its ranks");
  add_common_flags(compare, command->common,
                   {.seed = false, .force = false, .device = false, .dtype = false});
  compare.footer(kCompareExamples);
  compare.action([command] { run_compare(*command); });
}

}  // namespace lowrank::cli
