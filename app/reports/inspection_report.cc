#include "app/reports/inspection_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <string>
#include <utility>

#include "app/reports/spectrum_table.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

std::string shape_text(at::IntArrayRef sizes) {
  return fmt::format("({})", fmt::join(sizes, ", "));
}

Json layer_json(const InspectedLayer& layer) {
  return {{"name", layer.name},
          {"in", layer.shape_a[1]},
          {"out", layer.shape_b[0]},
          {"rank", layer.rank()},
          {"scaling", layer.scaling},
          {"shape_a", layer.shape_a},
          {"shape_b", layer.shape_b},
          {"dtype", c10::toString(layer.dtype)},
          {"parameters", layer.parameters()},
          {"norm_a", layer.norm_a},
          {"norm_b", layer.norm_b},
          {"norm_update", layer.norm_update}};
}

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

void add_header(std::vector<std::string>& header) {
  const auto columns = spectrum_header();
  header.insert(header.end(), columns.begin(), columns.end());
}

void print_spectra(const AdapterReport& report) {
  std::vector<std::string> header = {"layer"};
  add_header(header);
  Table table(header);
  for (size_t i = 0; i < report.spectra.size(); ++i) {
    std::vector<std::string> row = {report.adapter.layers[i].name};
    add_spectrum_cells(row, to_json(report.spectra[i]));
    table.add(row);
  }
  fmt::print("\nSpectra of the updates s B A:\n{}", table.text(terminal_width(stdout)));
}

/// "Q4_1" for numbers in blocks, which are read as others; "Float" for float32.
std::string dtype_text(const Json& tensor) {
  const auto dtype = tensor["dtype"].get<std::string>();
  const auto format = tensor.value("format", std::string("F32"));
  return dtype == "Float" && format != "F32" ? format : dtype;
}

void print_tensors(const Json& json, bool with_spectrum) {
  const bool has_norms = !json["tensors"].empty() && json["tensors"][0].contains("norm");
  std::vector<std::string> header = {"tensor", "dtype", "shape"};
  if (has_norms) header.emplace_back("norm");
  if (with_spectrum) add_header(header);
  Table table(header);
  for (const auto& tensor : json["tensors"]) {
    std::vector<std::string> row = {tensor["name"].get<std::string>(), dtype_text(tensor),
                                    shape_text(tensor["shape"].get<std::vector<int64_t>>())};
    if (has_norms) row.push_back(fmt::format("{:.4f}", tensor["norm"].get<double>()));
    if (with_spectrum) add_spectrum_cells(row, tensor.value("spectrum", Json()));
    table.add(row);
  }
  fmt::print("{}{} parameters, {} bytes on disk.\n", table.text(terminal_width(stdout)),
             with_thousands(json["parameters"].get<int64_t>()),
             with_thousands(json["bytes"].get<int64_t>()));
  if (!has_norms && !json["tensors"].empty()) {
    print_text("The norms of a model of more than 1 GiB are shown with --spectrum alone.");
  }
}

/// "rank 4", or "rank 4 (layers: 1 to 16)" where a layer has another one.
std::string ranks_text(const InspectedAdapter& adapter) {
  int64_t least = adapter.config.rank, most = adapter.config.rank;
  if (!adapter.layers.empty()) least = most = adapter.layers[0].rank();
  for (const auto& layer : adapter.layers) {
    least = std::min(least, layer.rank());
    most = std::max(most, layer.rank());
  }
  const auto text = fmt::format("rank {}", adapter.config.rank);
  if (least == adapter.config.rank && most == least) return text;
  return least == most ? fmt::format("{} (layers: {})", text, least)
                       : fmt::format("{} (layers: {} to {})", text, least, most);
}

}  // namespace

nlohmann::ordered_json to_json(const AdapterReport& report) {
  const auto& adapter = report.adapter;
  Json json;
  json["kind"] = "adapter";
  json["rank"] = adapter.config.rank;
  json["alpha"] = adapter.config.alpha;
  json["scaling"] = adapter.config.scaling();
  json["unknown_fields"] = unknown_fields(adapter.config);
  json["config_matches"] = adapter.config_matches;
  json["config"] = to_json(adapter.config);
  json["layers"] = Json::array();
  for (size_t i = 0; i < adapter.layers.size(); ++i) {
    auto layer = layer_json(adapter.layers[i]);
    if (!report.spectra.empty()) layer["spectrum"] = to_json(report.spectra[i]);
    json["layers"].push_back(std::move(layer));
  }
  json["parameters"] = adapter.parameters;
  json["base_sha256"] = text_or_null(adapter.base_sha256);
  json["base_model_name_or_path"] = text_or_null(adapter.base_model);
  json["bytes"] = report.bytes;
  return json;
}

void print_report(const AdapterReport& report) {
  const auto& adapter = report.adapter;
  const auto& config = adapter.config;
  const auto text = [](const std::string& value) {
    return value.empty() ? std::string("unknown") : printable(value);
  };
  fmt::print("LoRA adapter: {}, alpha {}, scaling {:.6g}{}{}{}\n", ranks_text(adapter),
             config.alpha, config.scaling(), config.use_rslora ? ", rsLoRA" : "",
             config.use_dora ? ", DoRA" : "",
             config.init == LoraInit::kKaimingUniform ? "" : ", init " + init_name(config));
  print_text(
      fmt::format("Base: {} (SHA-256 {})", text(adapter.base_model), text(adapter.base_sha256)));
  fmt::print("On disk: {} bytes\n\n", with_thousands(static_cast<int64_t>(report.bytes)));
  Table table({"layer", "A", "B", "parameters", "|A|", "|B|", "|s B A|"});
  int64_t parameters = 0;
  for (const auto& layer : adapter.layers) {
    parameters += layer.parameters();
    table.add({layer.name, shape_text(layer.shape_a), shape_text(layer.shape_b),
               with_thousands(layer.parameters()), fmt::format("{:.4f}", layer.norm_a),
               fmt::format("{:.4f}", layer.norm_b), fmt::format("{:.4f}", layer.norm_update)});
  }
  fmt::print("{}{} parameters in {} layers.\n", table.text(terminal_width(stdout)),
             with_thousands(parameters), adapter.layers.size());
  if (const auto others = adapter.parameters - parameters; others > 0) {
    fmt::print("{} more in other tensors: biases, magnitudes, modules trained in full.\n",
               with_thousands(others));
  }
  if (!report.spectra.empty()) print_spectra(report);
}

void print_model(const nlohmann::ordered_json& json, bool with_spectrum) {
  if (json.contains("config") && json["config"].is_object()) {
    Table config({"config.json", ""});
    for (const auto& [field, value] : json["config"].items()) {
      // A config may list a mean for each of thousands of inputs. --json has them all.
      constexpr size_t kMost = 50;
      const auto text = value.is_string() ? value.get<std::string>() : to_text(value, -1);
      config.add({field, shortened(text, kMost)});
    }
    fmt::print("{}\n", config.text(terminal_width(stdout)));
  }
  if (json.contains("base_sha256")) {
    print_text(
        fmt::format("TorchScript model (SHA-256 {})\n", json["base_sha256"].get<std::string>()));
  }
  print_tensors(json, with_spectrum);
}

}  // namespace lowrank::app
