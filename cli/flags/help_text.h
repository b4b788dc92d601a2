#pragma once

#include <memory>

namespace CLI {
class FormatterBase;
}

namespace lowrank::cli {

/// Returns how --help is laid out: like CLI11's own, but no line is wider than 80 columns.
std::shared_ptr<CLI::FormatterBase> help_formatter();

}  // namespace lowrank::cli
