#include "cli/commands/commands.h"

namespace lowrank::cli {

void add_data(const Flags& flags) {
  const auto data = flags.command("data", "Fetch and inspect data sets");
  data.require_command();
  data.footer(
      "Examples:\n"
      "  lowrank data fetch mnist\n"
      "  lowrank data info /usr/share/datasets/fashion-mnist");
  add_data_fetch(data);
  add_data_info(data);
}

}  // namespace lowrank::cli
