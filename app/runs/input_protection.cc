#include "app/runs/input_protection.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <system_error>

namespace lowrank::app {

void require_not_an_input(const std::filesystem::path& output,
                          const std::vector<std::filesystem::path>& inputs) {
  for (const auto& input : inputs) {
    std::error_code none;
    if (!std::filesystem::equivalent(output, input, none)) continue;
    fail<FileError>("output",
                    fmt::format("\"{}\" must not be an input of the command", output.string()),
                    fmt::format("the input \"{}\"", input.string()), "Choose another output.");
  }
}

void require_no_inputs(const std::filesystem::path& folder, const std::vector<std::string>& names,
                       const std::vector<std::filesystem::path>& inputs) {
  require_not_an_input(folder, inputs);
  for (const auto& name : names) require_not_an_input(folder / name, inputs);
}

std::vector<std::filesystem::path> adapter_files(const std::filesystem::path& folder) {
  return {folder, folder / "adapter_config.json", folder / "adapter_model.safetensors"};
}

}  // namespace lowrank::app
