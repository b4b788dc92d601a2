#include "app/runs/kept_inputs.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <system_error>

namespace lowrank::app {

void require_no_input(const std::filesystem::path& output,
                      const std::vector<std::filesystem::path>& inputs) {
  for (const auto& input : inputs) {
    std::error_code none;
    if (!std::filesystem::equivalent(output, input, none)) continue;
    fail<FileError>("output",
                    fmt::format("\"{}\" must not be what the command reads", output.string()),
                    fmt::format("its input \"{}\"", input.string()), "Write elsewhere.");
  }
}

}  // namespace lowrank::app
