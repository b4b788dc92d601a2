#include "weights/plain_adapter.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <string>

namespace lowrank {
namespace {

/// Returns whether PEFT takes factors off the base where it loads an adapter with this init.
bool changes_base(LoraInit init) {
  return init == LoraInit::kPissa || init == LoraInit::kPissaNiter || init == LoraInit::kOlora ||
         init == LoraInit::kCorda || init == LoraInit::kLoraGa;
}

}  // namespace

AdapterFolder read_plain_adapter(const std::filesystem::path& folder, const char* operation) {
  auto adapter = read_adapter_folder(folder, operation);
  const auto refuse = [&](const char* required, const std::string& found) {
    fail<FileError>(operation,
                    fmt::format("\"{}\" must be an adapter {}", folder.string(), required), found);
  };
  if (adapter.config.use_dora) refuse("without DoRA", "use_dora");
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
    if (layer.rank() == 0) refuse("of ranks of at least 1", "0 for " + layer.path);
  }
  return adapter;
}

}  // namespace lowrank
