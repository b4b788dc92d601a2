#include <fmt/format.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "app/runs/base.h"
#include "app/runs/resources.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/data_flags.h"

namespace lowrank::cli {
namespace {

using nlohmann::ordered_json;

struct DataInfoCommand {
  app::DataOptions data;
  bool json = false;
};

ordered_json half_json(const app::Dataset& half) {
  const app::Normalization inputs = input_statistics(half);
  ordered_json json;
  if (half.holds_images()) {
    json["images"] = half.size();
    json["height"] = half.height();
    json["width"] = half.width();
    if (half.channels() > 1) json["channels"] = half.channels();
  } else {
    json["examples"] = half.size();
    json["shape"] = half.inputs.sizes().slice(1).vec();
  }
  json["mean"] = app::one_or_all(inputs.mean);
  json["deviation"] = app::one_or_all(inputs.deviation);
  if (half.classes > 0) json["class_counts"] = app::class_counts(half);
  return json;
}

std::string shown(const std::vector<double>& numbers) {
  std::string text;
  constexpr size_t kMost = 3;
  for (size_t i = 0; i < std::min(kMost, numbers.size()); ++i) {
    text += fmt::format("{}{:.4f}", i == 0 ? "" : ",", numbers[i]);
  }
  return numbers.size() > kMost ? text + ",..." : text;
}

void print_halves(const std::vector<std::pair<const char*, app::Dataset>>& halves) {
  app::Table table({"split", "examples", "of", "mean", "deviation"});
  for (const auto& [name, half] : halves) {
    const app::Normalization inputs = input_statistics(half);
    table.add({name, std::to_string(half.size()), half.shape_text(), shown(inputs.mean),
               shown(inputs.deviation)});
  }
  fmt::print("{}", table.text());
}

void print_counts(const std::vector<std::pair<const char*, app::Dataset>>& halves) {
  std::vector<std::string> header = {"class"};
  for (const auto& [name, half] : halves) header.emplace_back(name);
  app::Table table(header);
  std::vector<std::vector<int64_t>> of_halves;
  for (const auto& [name, half] : halves) of_halves.push_back(app::class_counts(half));
  const auto& first = halves.front().second;
  for (int64_t i = 0; i < first.classes; ++i) {
    std::vector<std::string> row = {class_name(first, i)};
    for (const auto& counts : of_halves) {
      const auto place = static_cast<size_t>(i);
      row.push_back(std::to_string(place < counts.size() ? counts[place] : 0));
    }
    table.add(row);
  }
  fmt::print("\n{}", table.text());
}

void run_info(const DataInfoCommand& options) {
  app::apply_common_options({});
  check(options.data);
  const auto source = source_of(options.data);
  std::vector<std::pair<const char*, app::Dataset>> halves;
  if (is_divided(source)) {
    halves.emplace_back("train", app::load_dataset(source, app::Split::kTrain));
    auto of_test = source;
    of_test.class_names = halves.front().second.class_names;
    halves.emplace_back("test", app::load_dataset(of_test, app::Split::kTest));
  } else {
    halves.emplace_back("all", app::load_dataset(source, app::Split::kTrain));
  }
  const auto& first = halves.front().second;
  if (options.json) {
    ordered_json info = {{"name", first.name}, {"classes", first.classes}};
    if (!first.class_names.empty()) info["class_names"] = first.class_names;
    if (!first.columns.empty()) info["columns"] = first.columns;
    for (const auto& [name, half] : halves) info[name] = half_json(half);
    fmt::print("{}\n", to_text(info));
    return;
  }
  fmt::print("{}: {}\n\n", printable(first.name),
             first.classes > 0 ? fmt::format("{} classes", first.classes) : "numbers to predict");
  print_halves(halves);
  if (first.classes > 0) print_counts(halves);
}

}  // namespace

void add_data_info(const Flags& data) {
  auto options = std::make_shared<DataInfoCommand>();
  const auto info = data.command("info", "Show sizes, classes and pixel statistics");
  add_source(info, options->data);
  info.flag("--json", options->json, "Print one JSON object instead of text");
  info.footer(
      "Examples:\n"
      "  lowrank data info mnist\n"
      "  lowrank data info photos/ --resize 32,32\n"
      "  lowrank data info /usr/share/datasets/fashion-mnist --json");
  info.action([options] { run_info(*options); });
}

}  // namespace lowrank::cli
