#include "app/reports/evaluation_report.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/printable.h>
#include <torch/nn/module.h>

#include <map>

#include "app/terminal/message.h"
#include "app/terminal/table.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

std::string shape_of(const at::Tensor& tensor) {
  return fmt::format("({})", fmt::join(tensor.sizes(), ", "));
}

std::string shown_class(const std::vector<std::string>& names, size_t number) {
  return number < names.size() ? names[number] : std::to_string(number);
}

struct LayerRow {
  std::string shapes;
  int64_t base = 0;
  int64_t lora = 0;
};

}  // namespace

void print_evaluation(const std::string& title, const Evaluation& evaluation,
                      const std::vector<std::string>& class_names) {
  fmt::print("{}: accuracy {:.4f} ({} of {})\n", printable(title), evaluation.accuracy(),
             with_thousands(evaluation.correct), with_thousands(evaluation.total));
  Table table({"class", "wrong", "of"});
  constexpr size_t kFew = 20;  // a model may have far more outputs than the data have classes
  for (size_t i = 0; i < evaluation.wrong_by_class.size(); ++i) {
    if (evaluation.total_by_class[i] == 0 && evaluation.wrong_by_class.size() > kFew) continue;
    table.add({shown_class(class_names, i), std::to_string(evaluation.wrong_by_class[i]),
               std::to_string(evaluation.total_by_class[i])});
  }
  fmt::print("{}", table.text());
}

void print_confusion(const Evaluation& evaluation, const std::vector<std::string>& class_names) {
  const auto classes = evaluation.confusion.size(0);
  std::vector<std::string> header = {"true \\ pred"};
  for (int64_t i = 0; i < classes; ++i) {
    header.push_back(shown_class(class_names, static_cast<size_t>(i)));
  }
  Table table(header);
  for (int64_t i = 0; i < classes; ++i) {
    std::vector<std::string> row = {shown_class(class_names, static_cast<size_t>(i))};
    for (int64_t j = 0; j < classes; ++j) {
      row.push_back(std::to_string(evaluation.confusion[i][j].item<int64_t>()));
    }
    table.add(row);
  }
  fmt::print("{}", table.text());
}

void print_evaluation(const std::string& title, const RegressionError& error) {
  print_text(fmt::format(
      "{}: mean squared error {:.6g}, mean absolute error {:.6g}, explained variance {:.4f} ({} "
      "examples)",
      printable(title), error.mean_squared, error.mean_absolute, error.explained,
      with_thousands(error.total)));
}

Json to_json(const RegressionError& error) {
  return {{"mean_squared_error", error.mean_squared},
          {"mean_absolute_error", error.mean_absolute},
          {"explained_variance", error.explained},
          {"total", error.total}};
}

Json to_json(const Evaluation& evaluation) {
  Json json;
  json["accuracy"] = evaluation.accuracy();
  json["correct"] = evaluation.correct;
  json["total"] = evaluation.total;
  json["wrong_by_class"] = evaluation.wrong_by_class;
  json["total_by_class"] = evaluation.total_by_class;
  return json;
}

Json confusion_json(const Evaluation& evaluation) {
  Json rows = Json::array();
  for (int64_t i = 0; i < evaluation.confusion.size(0); ++i) {
    const auto row = evaluation.confusion[i].contiguous();
    rows.push_back(
        std::vector<int64_t>(row.data_ptr<int64_t>(), row.data_ptr<int64_t>() + row.numel()));
  }
  return rows;
}

double ParameterCounts::share_percent() const {
  return base == 0 ? 0 : 100.0 * static_cast<double>(lora) / static_cast<double>(base);
}

ParameterCounts count_parameters(const torch::nn::Module& model, const Adapter* adapter) {
  ParameterCounts counts;
  for (const auto& parameter : model.parameters()) counts.base += parameter.numel();
  if (adapter != nullptr) counts.lora = adapter->parameter_count();
  return counts;
}

void print_parameters(const torch::nn::Module& model, const Adapter* adapter) {
  std::vector<std::string> order;
  std::map<std::string, LayerRow> rows;
  for (const auto& item : model.named_parameters()) {
    const auto dot = item.key().rfind('.');
    const auto layer = dot == std::string::npos ? std::string() : item.key().substr(0, dot);
    auto& row = rows[layer];
    if (row.base == 0) order.push_back(layer);
    row.base += item.value().numel();
    row.shapes += (row.shapes.empty() ? "" : " + ") + shape_of(item.value());
  }
  if (adapter != nullptr) {
    for (const auto& layer : adapter->layers()) {
      auto& row = rows[layer.name];
      row.lora = layer.a.numel() + layer.b.numel();
      row.shapes += fmt::format(" + B {} · A {}", shape_of(layer.b), shape_of(layer.a));
    }
  }
  Table table({"layer", "shapes", "base", "LoRA"});
  for (const auto& layer : order) {
    const auto& row = rows[layer];
    table.add({layer, row.shapes, with_thousands(row.base), with_thousands(row.lora)});
  }
  const auto counts = count_parameters(model, adapter);
  table.rule();
  table.add({"total", "", with_thousands(counts.base), with_thousands(counts.lora)});
  fmt::print("{}", table.text());
  if (adapter != nullptr) {
    fmt::print("With LoRA {} parameters; {} added, {:.3f} % of the base.\n",
               with_thousands(counts.base + counts.lora), with_thousands(counts.lora),
               counts.share_percent());
  }
  fmt::print("\n");
}

void warn_of_config(bool matches, const std::vector<std::string>& unknown_fields,
                    const std::string& folder) {
  if (!matches) {
    print_message(fmt::format(
        "warning: adapter_config.json in \"{}\" is not the one that was saved with the "
        "tensors beside it: it was edited, or a command was killed while it replaced the "
        "adapter.",
        folder));
  }
  if (unknown_fields.empty()) return;
  print_message(fmt::format(
      "warning: the config of \"{}\" has fields that neither lowrank nor PEFT knows, and "
      "that may change the numbers: {}.",
      folder, list_names(unknown_fields)));
}

void warn(const LoadReport& report, const std::string& folder) {
  if (!report.base_matches()) {
    print_message(fmt::format(
        "warning: the adapter \"{}\" was trained on another base of the same shapes (SHA-256 "
        "{}..., this one is {}...): its results will differ from those on that base.",
        folder, report.expected_base.substr(0, 12), report.found_base.substr(0, 12)));
  }
  if (report.matches_without_buffers()) {
    print_message(fmt::format(
        "note: \"{}\" was written before lowrank compared buffers: whether those of the base are "
        "the ones it was trained with is not known.",
        folder));
  }
  if (!report.unmatched.empty()) {
    std::vector<std::string> entries;
    for (const auto& [field, entry] : report.unmatched) {
      entries.push_back(fmt::format("{} of {}", entry, field));
    }
    print_message(fmt::format(
        "note: the config of \"{}\" names what this model does not have: {}. The tensors in the "
        "file show which layers are meant.",
        folder, list_names(entries)));
  }
  warn_of_config(report.config_matches, report.unknown_fields, folder);
  if (report.acts_like_base) {
    print_message(fmt::format(
        "warning: every lora_B in \"{}\" is zero: the adapter acts like the base.", folder));
  }
}

void add_report(nlohmann::ordered_json& json, const LoadReport& report) {
  json["base_matches"] = nullptr;
  if (!report.expected_base.empty()) json["base_matches"] = report.base_matches();
  json["acts_like_base"] = report.acts_like_base;
  json["config_matches"] = report.config_matches;
  json["unmatched"] = nlohmann::ordered_json::array();
  for (const auto& [field, entry] : report.unmatched) {
    json["unmatched"].push_back({{"field", field}, {"entry", entry}});
  }
  json["unknown_fields"] = report.unknown_fields;
}

}  // namespace lowrank::app
