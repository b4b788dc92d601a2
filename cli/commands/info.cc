#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/io/safetensors.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/models/base_model.h"
#include "app/models/model_folder.h"
#include "app/reports/evaluation_report.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct InfoCommand {
  app::CommonOptions common;
  std::string folder;
};

constexpr auto kInfoExamples = R"(Examples:
  lowrank info two/
  lowrank info base/ --json
  lowrank info classifier.pt)";

uintmax_t bytes_in(const fs::path& folder) {
  if (!fs::is_directory(folder)) return fs::file_size(folder);
  uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

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

Json adapter_json(const InspectedAdapter& adapter, uintmax_t bytes) {
  Json json;
  json["kind"] = "adapter";
  json["rank"] = adapter.config.rank;
  json["alpha"] = adapter.config.alpha;
  json["scaling"] = adapter.config.scaling();
  json["unknown_fields"] = unknown_fields(adapter.config);
  json["config_matches"] = adapter.config_matches;
  json["config"] = to_json(adapter.config);
  json["layers"] = Json::array();
  for (const auto& layer : adapter.layers) json["layers"].push_back(layer_json(layer));
  json["parameters"] = adapter.parameters;
  json["base_sha256"] = text_or_null(adapter.base_sha256);
  json["base_model_name_or_path"] = text_or_null(adapter.base_model);
  json["bytes"] = bytes;
  return json;
}

void print_adapter(const InspectedAdapter& adapter, uintmax_t bytes) {
  const auto& config = adapter.config;
  const auto text = [](const std::string& value) {
    return value.empty() ? std::string("unknown") : printable(value);
  };
  fmt::print("LoRA adapter: rank {}, alpha {}, scaling {:.6g}{}{}{}\n", config.rank, config.alpha,
             config.scaling(), config.use_rslora ? ", rsLoRA" : "", config.use_dora ? ", DoRA" : "",
             config.init == LoraInit::kKaimingUniform ? "" : ", init " + init_name(config));
  app::print_text(
      fmt::format("Base: {} (SHA-256 {})", text(adapter.base_model), text(adapter.base_sha256)));
  fmt::print("On disk: {} bytes\n\n", app::with_thousands(static_cast<int64_t>(bytes)));
  app::Table table({"layer", "A", "B", "parameters", "|A|", "|B|", "|s B A|"});
  int64_t parameters = 0;
  for (const auto& layer : adapter.layers) {
    parameters += layer.parameters();
    table.add({layer.name, shape_text(layer.shape_a), shape_text(layer.shape_b),
               app::with_thousands(layer.parameters()), fmt::format("{:.4f}", layer.norm_a),
               fmt::format("{:.4f}", layer.norm_b), fmt::format("{:.4f}", layer.norm_update)});
  }
  fmt::print("{}{} parameters in {} layers.\n", table.text(app::terminal_width(stdout)),
             app::with_thousands(parameters), adapter.layers.size());
  const auto others = adapter.parameters - parameters;
  if (others == 0) return;
  fmt::print("{} more in other tensors: biases, magnitudes, modules trained in full.\n",
             app::with_thousands(others));
}

Json tensor_json(const std::string& name, const at::Tensor& tensor) {
  return {{"name", name},
          {"dtype", c10::toString(tensor.scalar_type())},
          {"shape", tensor.sizes().vec()},
          {"norm", tensor.to(at::kDouble).norm().item<double>()}};
}

Json model_json(const fs::path& folder) {
  const auto config_file = folder / "config.json";
  const auto text = read_file(config_file, kLongestJson);
  const auto config = parse_json(text, fmt::format("\"{}\"", config_file.string()));
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  const bool matches = app::is_config_of(text, file);
  if (!matches) app::warn_of_another_config(config_file);
  Json json;
  json["kind"] = "model";
  json["config"] = config;
  json["config_matches"] = matches;
  json["tensors"] = Json::array();
  int64_t parameters = 0;
  for (const auto& name : file.names()) {
    const auto tensor = file.tensor(name);
    parameters += tensor.numel();
    json["tensors"].push_back(tensor_json(name, tensor));
  }
  json["parameters"] = parameters;
  json["bytes"] = bytes_in(folder);
  return json;
}

Json script_json(const fs::path& file) {
  const auto model = app::BaseModel::from_script(file);
  Json json;
  json["kind"] = "model";
  json["format"] = "TorchScript";
  json["tensors"] = Json::array();
  int64_t parameters = 0;
  for (const auto& [name, tensor] : model.named_parameters()) {
    parameters += tensor.numel();
    json["tensors"].push_back(tensor_json(name, tensor.detach()));
  }
  for (const auto& [name, tensor] : model.named_buffers()) {
    json["tensors"].push_back(tensor_json(name, tensor));
  }
  json["parameters"] = parameters;
  json["base_sha256"] = model.fingerprint();
  json["bytes"] = bytes_in(file);
  return json;
}

void print_model(const Json& json) {
  if (json.contains("config")) {
    app::Table config({"config.json", ""});
    for (const auto& [field, value] : json["config"].items()) {
      config.add({field, value.is_string() ? value.get<std::string>() : to_text(value, -1)});
    }
    fmt::print("{}\n", config.text());
  } else {
    app::print_text(
        fmt::format("TorchScript model (SHA-256 {})\n", json["base_sha256"].get<std::string>()));
  }
  app::Table table({"tensor", "dtype", "shape", "norm"});
  for (const auto& tensor : json["tensors"]) {
    table.add({tensor["name"].get<std::string>(), tensor["dtype"].get<std::string>(),
               shape_text(tensor["shape"].get<std::vector<int64_t>>()),
               fmt::format("{:.4f}", tensor["norm"].get<double>())});
  }
  fmt::print("{}{} parameters, {} bytes on disk.\n", table.text(app::terminal_width(stdout)),
             app::with_thousands(json["parameters"].get<int64_t>()),
             app::with_thousands(json["bytes"].get<int64_t>()));
}

void run_info(const InfoCommand& command) {
  app::apply_common_options(command.common);
  const fs::path folder = command.folder;
  app::require_finished(folder);
  if (fs::is_regular_file(folder)) {
    const auto json = script_json(folder);
    return command.common.json ? fmt::print("{}\n", to_text(json)) : print_model(json);
  }
  const bool is_adapter = fs::exists(folder / "adapter_config.json");
  if (!is_adapter && !fs::exists(folder / "config.json")) {
    fail<FileError>("info", "the folder must hold an adapter_config.json or a config.json",
                    fmt::format("neither in \"{}\"", folder.string()));
  }
  if (is_adapter) {
    const auto adapter = inspect_adapter(folder);
    const auto bytes = bytes_in(folder);
    app::warn_of_config(adapter.config_matches, unknown_fields(adapter.config), command.folder);
    if (command.common.json) {
      auto json = adapter_json(adapter, bytes);
      // As the file has it: PEFT writes true for each start that readers need not know of.
      const auto config = read_ordered_json_file(folder / "adapter_config.json");
      const auto init = config.find("init_lora_weights");
      if (init != config.end()) json["config"]["init_lora_weights"] = *init;
      fmt::print("{}\n", to_text(json));
    } else {
      print_adapter(adapter, bytes);
    }
    return;
  }
  const auto json = model_json(folder);
  if (command.common.json) {
    fmt::print("{}\n", to_text(json));
  } else {
    print_model(json);
  }
}

}  // namespace

void add_info(const Flags& flags) {
  auto command = std::make_shared<InfoCommand>();
  const auto info = flags.command("info", "Show what an adapter or a model holds");
  info.option("folder", &command->folder, "Folder of an adapter or a model, or a TorchScript file")
      .type_name("PLACE")
      .required();
  add_common_flags(info, command->common, {.seed = false, .force = false});
  info.footer(kInfoExamples);
  info.action([command] { run_info(*command); });
}

}  // namespace lowrank::cli
