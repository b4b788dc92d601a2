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

}  // namespace lowrank::app
