#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "app/terminal/printable.h"
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

constexpr auto kExamples = R"(Examples:
  lowrank info two/
  lowrank info base/ --json)";

double frobenius(const at::Tensor& tensor) { return tensor.to(at::kDouble).norm().item<double>(); }

/// ‖B·A‖ in Frobenius norm from the r × r products BᵀB and AAᵀ: ‖BA‖² = tr(BᵀB · AAᵀ).
double product_norm(const at::Tensor& b, const at::Tensor& a) {
  const auto b64 = b.to(at::kDouble);
  const auto a64 = a.to(at::kDouble);
  const double squared = b64.t().mm(b64).mul(a64.mm(a64.t()).t()).sum().item<double>();
  return std::sqrt(std::max(squared, 0.0));
}

uintmax_t bytes_in(const fs::path& folder) {
  uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

Json tensor_json(const std::string& name, const at::Tensor& tensor) {
  return {{"name", name},
          {"dtype", c10::toString(tensor.scalar_type())},
          {"shape", tensor.sizes().vec()},
          {"norm", frobenius(tensor)}};
}

std::string shape_text(at::IntArrayRef sizes) {
  return fmt::format("({})", fmt::join(sizes, ", "));
}

std::string shape_text(const Json& sizes) {
  return shape_text(at::IntArrayRef(sizes.get<std::vector<int64_t>>()));
}

/// One layer: A (rank, in), B (out, rank), and for a convolution a kernel's dimensions after them.
Json layer_json(const std::string& path, const at::Tensor& a, const at::Tensor& b,
                const LoraConfig& config) {
  if (a.dim() < 2 || b.dim() < 2 || a.size(0) != b.size(1)) {
    fail<FileError>("info", fmt::format("the factors of \"{}\" must be matrices of one rank", path),
                    fmt::format("A of shape {} and B of shape {}", shape_text(a.sizes()),
                                shape_text(b.sizes())));
  }
  const double scaling = config_of_layer(config, path).scaling();
  return {{"name", path},
          {"in", a.size(1)},
          {"out", b.size(0)},
          {"rank", a.size(0)},
          {"scaling", scaling},
          {"shape_a", a.sizes().vec()},
          {"shape_b", b.sizes().vec()},
          {"dtype", c10::toString(a.scalar_type())},
          {"parameters", a.numel() + b.numel()},
          {"norm_a", frobenius(a)},
          {"norm_b", frobenius(b)},
          {"norm_update", std::abs(scaling) * product_norm(b.flatten(1), a.flatten(1))}};
}

/// The layers of an adapter: each A has a B beside it.
Json layers_json(const SafetensorsFile& file, const LoraConfig& config) {
  const std::string prefix = "base_model.model.";
  Json layers = Json::array();
  for (const auto& name : file.names()) {
    for (const auto& [end_a, end_b] : {std::pair(".lora_A.weight", ".lora_B.weight"),
                                       std::pair(".lora_embedding_A", ".lora_embedding_B")}) {
      if (!name.ends_with(end_a)) continue;
      const auto path = name.substr(0, name.size() - std::string_view(end_a).size());
      const auto b = file.tensor(path + end_b);
      const auto layer = path.starts_with(prefix) ? path.substr(prefix.size()) : path;
      layers.push_back(layer_json(layer, file.tensor(name), b, config));
    }
  }
  return layers;
}

int64_t parameters_in(const SafetensorsFile& file) {
  int64_t parameters = 0;
  for (const auto& name : file.names()) parameters += file.tensor(name).numel();
  return parameters;
}

Json adapter_json(const fs::path& folder) {
  const auto config = read_json_file(folder / "adapter_config.json");
  const auto file = SafetensorsFile::open(folder / "adapter_model.safetensors");
  if (!config.is_object()) {
    fail<FileError>(
        "info",
        fmt::format("\"{}\" must hold a JSON object", (folder / "adapter_config.json").string()),
        config.type_name());
  }
  const auto require_number = [&](const char* field) {
    const auto it = config.find(field);
    if (it == config.end() || !it->is_number()) {
      fail<FileError>("info",
                      fmt::format("\"{}\" must hold a number {}",
                                  (folder / "adapter_config.json").string(), field),
                      it == config.end() ? "none" : it->dump());
    }
  };
  require_number("r");
  require_number("lora_alpha");
  const auto lora = read_lora_config(folder / "adapter_config.json");
  Json json;
  json["kind"] = "adapter";
  json["rank"] = lora.rank;
  json["alpha"] = lora.alpha;
  json["scaling"] = lora.scaling();
  json["init"] = init_name(lora);
  json["use_rslora"] = lora.use_rslora;
  json["use_dora"] = lora.use_dora;
  json["layers"] = layers_json(file, lora);
  json["parameters"] = parameters_in(file);
  const auto& metadata = file.metadata();
  const auto sum = metadata.find("lowrank.base_sha256");
  json["base_sha256"] = sum == metadata.end() ? Json(nullptr) : Json(sum->second);
  const auto base = config.find("base_model_name_or_path");
  json["base_model_name_or_path"] = base == config.end() ? Json(nullptr) : Json(*base);
  json["bytes"] = bytes_in(folder);
  return json;
}

Json model_json(const fs::path& folder) {
  const auto config = read_json_file(folder / "config.json");
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  Json json;
  json["kind"] = "model";
  json["config"] = config;
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

std::string text(const Json& json) {
  return json.is_string() ? app::printable(json.get<std::string>())
         : json.is_null() ? "not told"
                          : json.dump();
}

void print_adapter(const Json& json) {
  const auto init = json["init"].get<std::string>();
  fmt::print("LoRA adapter: rank {}, alpha {}, scaling {:.6g}{}{}{}\n", json["rank"].get<int64_t>(),
             json["alpha"].get<double>(), json["scaling"].get<double>(),
             json["use_rslora"].get<bool>() ? ", rsLoRA" : "",
             json["use_dora"].get<bool>() ? ", DoRA" : "",
             init == "kaiming" ? "" : ", init " + init);
  fmt::print("Base: {} (SHA-256 {})\n", text(json["base_model_name_or_path"]),
             text(json["base_sha256"]));
  fmt::print("On disk: {} bytes\n\n", app::with_thousands(json["bytes"].get<int64_t>()));
  app::Table table({"layer", "A", "B", "parameters", "|A|", "|B|", "|s B A|"});
  int64_t parameters = 0;
  for (const auto& layer : json["layers"]) {
    parameters += layer["parameters"].get<int64_t>();
    table.add({layer["name"].get<std::string>(), shape_text(layer["shape_a"]),
               shape_text(layer["shape_b"]),
               app::with_thousands(layer["parameters"].get<int64_t>()),
               fmt::format("{:.4f}", layer["norm_a"].get<double>()),
               fmt::format("{:.4f}", layer["norm_b"].get<double>()),
               fmt::format("{:.4f}", layer["norm_update"].get<double>())});
  }
  fmt::print("{}{} parameters in {} layers.\n", table.text(), app::with_thousands(parameters),
             json["layers"].size());
  const auto others = json["parameters"].get<int64_t>() - parameters;
  if (others == 0) return;
  fmt::print("{} more in other tensors: biases, magnitudes, modules that are kept whole.\n",
             app::with_thousands(others));
}

void print_model(const Json& json) {
  fmt::print("Model: {}\n", json["config"].dump());
  fmt::print("On disk: {} bytes\n\n", app::with_thousands(json["bytes"].get<int64_t>()));
  app::Table table({"tensor", "dtype", "shape", "norm"});
  for (const auto& tensor : json["tensors"]) {
    table.add({tensor["name"].get<std::string>(), tensor["dtype"].get<std::string>(),
               shape_text(tensor["shape"]), fmt::format("{:.4f}", tensor["norm"].get<double>())});
  }
  fmt::print("{}{} parameters.\n", table.text(),
             app::with_thousands(json["parameters"].get<int64_t>()));
}

void run_info(const InfoCommand& command) {
  app::apply_common_options(command.common);
  const fs::path folder = command.folder;
  const bool adapter = fs::exists(folder / "adapter_config.json");
  if (!adapter && !fs::exists(folder / "config.json")) {
    fail<FileError>("info", "the folder must hold an adapter_config.json or a config.json",
                    fmt::format("neither in \"{}\"", folder.string()));
  }
  const auto json = adapter ? adapter_json(folder) : model_json(folder);
  if (command.common.json) {
    fmt::print("{}\n", to_text(json));
  } else if (adapter) {
    print_adapter(json);
  } else {
    print_model(json);
  }
}

}  // namespace

void add_info(const Flags& flags) {
  auto command = std::make_shared<InfoCommand>();
  const auto info = flags.command("info", "What is in an adapter's or a model's folder");
  info.option("folder", &command->folder, "Folder of an adapter or a model")
      .type_name("DIR")
      .required();
  add_common_flags(info, command->common);
  info.footer(kExamples);
  info.action([command] { run_info(*command); });
}

}  // namespace lowrank::cli
