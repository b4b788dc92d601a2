#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/linalg/spectrum.h>
#include <lowrank/weights/inspect_checkpoint.h>
#include <lowrank/weights/report.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "app/models/base_model.h"
#include "app/models/model_folder.h"
#include "app/models/weights_file.h"
#include "app/pages/record_page.h"
#include "app/reports/evaluation_report.h"
#include "app/reports/inspection_report.h"
#include "app/runs/figures.h"
#include "app/runs/runs.h"
#include "app/runs/unfinished.h"
#include "app/terminal/progress.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct InfoCommand {
  app::CommonOptions common;
  std::string folder;
  bool spectrum = false;
};

constexpr auto kInfoExamples = R"(Examples:
  lowrank info two/
  lowrank info base/ --json
  lowrank info model.safetensors --spectrum
  lowrank info SmolLM2-135M-Instruct.Q4_1.gguf
  lowrank info classifier.pt)";

/// Whether a file says how a run went, and is no part of its model or adapter.
bool is_record(const fs::path& file) {
  const auto name = file.filename();
  return name == app::kTrainingFile || name == app::kHistoryFile || name == app::kFiguresFile ||
         name == app::kPageFile || name == kReportFile;
}

uintmax_t bytes_in(const fs::path& folder) {
  if (!fs::is_directory(folder)) return fs::file_size(folder);
  uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && !is_record(entry.path())) bytes += entry.file_size();
  }
  return bytes;
}

Json tensor_json(const std::string& name, const at::Tensor& tensor, bool with_spectrum) {
  InspectedTensor found;
  found.name = name;
  found.stored = {{}, tensor.scalar_type(), tensor.sizes().vec()};
  found.norm = tensor.to(at::kDouble).norm().item<double>();
  const bool is_weight = tensor.dim() >= 2 && tensor.is_floating_point();
  if (with_spectrum && is_weight) found.spectrum = spectrum(tensor.flatten(1), name);
  return to_json(found);
}

void add_tensors(Json& json, const Checkpoint& checkpoint, const InfoCommand& command,
                 uintmax_t bytes) {
  constexpr uintmax_t kQuicklyRead = uintmax_t{1} << 30;
  const InspectOptions options = {.norms = bytes <= kQuicklyRead, .spectra = command.spectrum};
  std::vector<InspectedTensor> tensors;
  {
    app::Progress progress("info", 0, "tensors", command.common.quiet || !command.spectrum);
    tensors = inspect_checkpoint(checkpoint, options, progress.counter());
    progress.finish();
  }
  json["tensors"] = Json::array();
  int64_t parameters = 0;
  for (const auto& tensor : tensors) {
    parameters += c10::multiply_integers(tensor.stored.shape);
    json["tensors"].push_back(to_json(tensor));
  }
  json["parameters"] = parameters;
  json["bytes"] = bytes;
}

/// A file of weights, or a folder with one or with shards.
Json checkpoint_json(const fs::path& place, const InfoCommand& command) {
  Json json;
  json["kind"] = "model";
  const auto checkpoint = Checkpoint::open(place);
  const auto config_file = place / "config.json";
  if (checkpoint.is_folder() && fs::exists(config_file)) {
    const auto text = read_file(config_file, kLongestJson);
    json["config"] = parse_json(text, fmt::format("\"{}\"", config_file.string()));
    const bool matches = app::is_config_of(text, checkpoint.metadata_of(0));
    json["config_matches"] = matches;
    if (!matches) app::warn_of_another_config(config_file);
  }
  add_tensors(json, checkpoint, command, bytes_in(place));
  return json;
}

Json script_json(const fs::path& file, const InfoCommand& command) {
  const auto model = app::BaseModel::from_script(file);
  Json json;
  json["kind"] = "model";
  json["format"] = "TorchScript";
  json["tensors"] = Json::array();
  int64_t parameters = 0;
  for (const auto& [name, tensor] : model.named_parameters()) {
    parameters += tensor.numel();
    json["tensors"].push_back(tensor_json(name, tensor.detach(), command.spectrum));
  }
  for (const auto& [name, tensor] : model.named_buffers()) {
    json["tensors"].push_back(tensor_json(name, tensor, /*with_spectrum=*/false));
  }
  json["parameters"] = parameters;
  json["base_sha256"] = model.fingerprint();
  json["bytes"] = bytes_in(file);
  return json;
}

Json model_json(const InfoCommand& command) {
  const fs::path place = command.folder;
  constexpr std::array<std::string_view, 3> kWeights = {".safetensors", ".gguf", ".npy"};
  if (app::is_archive(place)) return script_json(place, command);
  const bool is_known =
      !fs::is_regular_file(place) ||
      std::find(kWeights.begin(), kWeights.end(), place.extension()) != kWeights.end();
  if (is_known) return checkpoint_json(place, command);
  fail<FileError>(
      "info",
      fmt::format("\"{}\" must be an adapter's or a model's folder, or a file of weights "
                  "(safetensors, GGUF, .npy, TorchScript)",
                  place.string()),
      "another kind of file");
}

/// As the file has it: PEFT writes true for each start that readers need not know of.
void take_stated_init(Json& json, const fs::path& folder) {
  const auto config = read_ordered_json_file(folder / "adapter_config.json");
  const auto init = config.find("init_lora_weights");
  if (init != config.end()) json["config"]["init_lora_weights"] = *init;
}

void show_adapter(const InfoCommand& command) {
  const fs::path folder = command.folder;
  app::AdapterReport report = {.adapter = inspect_adapter(folder), .spectra = {}, .bytes = 0};
  if (command.spectrum) report.spectra = adapter_spectra(folder);
  report.bytes = bytes_in(folder);
  const auto& adapter = report.adapter;
  app::warn_of_config(adapter.config_matches, unknown_fields(adapter.config), command.folder);
  if (!command.common.json) return print_report(report);
  auto json = to_json(report);
  take_stated_init(json, folder);
  fmt::print("{}\n", to_text(json));
}

void run_info(const InfoCommand& command) {
  app::apply_common_options(command.common);
  const fs::path place = command.folder;
  app::require_finished(place);
  if (fs::exists(place / "adapter_config.json")) return show_adapter(command);
  const auto json = model_json(command);
  if (command.common.json) {
    fmt::print("{}\n", to_text(json));
  } else {
    app::print_model(json, command.spectrum);
  }
}

}  // namespace

void add_info(const Flags& flags) {
  auto command = std::make_shared<InfoCommand>();
  const auto info = flags.command("info", "Show what an adapter or a model holds");
  info.option("folder", &command->folder,
              "Folder of an adapter or a model, or a file: safetensors, GGUF, .npy, TorchScript")
      .type_name("PLACE")
      .required();
  info.flag("--spectrum", command->spectrum,
            "Decompose each weight, or each update of an adapter, and show its ranks");
  add_common_flags(info, command->common,
                   {.seed = false, .force = false, .device = false, .dtype = false});
  info.footer(kInfoExamples);
  info.action([command] { run_info(*command); });
}

}  // namespace lowrank::cli
