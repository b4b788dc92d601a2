#include "weights/plain_adapter.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <string>

#include "adapter/peft/keys.h"

namespace lowrank {
namespace {

/// Returns whether PEFT takes factors off the base where it loads an adapter with this init.
bool changes_base(LoraInit init) {
  return init == LoraInit::kPissa || init == LoraInit::kPissaNiter || init == LoraInit::kOlora ||
         init == LoraInit::kCorda || init == LoraInit::kLoraGa;
}

}  // namespace

AdapterFolder read_plain_adapter(const std::filesystem::path& folder, const char* operation,
                                 bool with_dora) {
  auto adapter = read_adapter_folder(folder, operation);
  const auto refuse = [&](const char* required, const std::string& found) {
    fail<FileError>(operation,
                    fmt::format("\"{}\" must be an adapter {}", folder.string(), required), found);
  };
  const bool has_dora = adapter.config.use_dora;
  if (has_dora && !with_dora) refuse("without DoRA", "use_dora");
  const auto parameters = adapter.json.find("target_parameters");
  if (parameters != adapter.json.end() && !parameters->empty()) {
    refuse("of whole layers", "target_parameters");
  }
  if (changes_base(adapter.config.init)) {
    refuse("that leaves its base as it is",
           fmt::format("init_lora_weights \"{}\", which PEFT takes off the base",
                       init_name(adapter.config)));
  }
  if (adapter.layers.empty()) refuse("with factors", "none");
  for (const auto& layer : adapter.layers) {
    if (layer.a.numel() == 0 || layer.b.numel() == 0) {
      refuse("with factors that are not empty", "empty ones of " + layer.path);
    }
    if (layer.rank() == layer.stated_rank) continue;
    refuse("whose factors have the ranks of its config",
           fmt::format("rank {} for {}, of which the config says {}", layer.rank(), layer.path,
                       layer.stated_rank));
  }
  for (const auto& name : adapter.others) {
    const bool is_bias = name.ends_with("lora_B.bias");
    if (is_bias || name.find("lora_") == std::string::npos) continue;
    if (has_dora && canonical_key(name, /*adapter=*/"").ends_with(kMagnitudeKey)) continue;
    refuse("whose factors are pairs of lora_A and lora_B", "\"" + name + "\" alone");
  }
  return adapter;
}

std::string note_of_biases(const AdapterFolder& adapter, const std::filesystem::path& folder) {
  const auto& others = adapter.others;
  const auto found = std::find_if(others.begin(), others.end(),
                                  [](const auto& name) { return name.ends_with("lora_B.bias"); });
  if (adapter.config.lora_bias || found == others.end()) return {};
  return fmt::format(
      "\"{}\" holds \"{}\", though its config does not say lora_bias: such tensors are taken as "
      "updates of biases, as mergekit means them.",
      folder.string(), *found);
}

}  // namespace lowrank
