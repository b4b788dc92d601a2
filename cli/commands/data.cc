#include "cli/commands/commands.h"

namespace lowrank::cli {

void add_data(const Flags& flags) {
  const auto data = flags.command("data", "Fetch and inspect data sets");
  data.require_command();
  data.footer(
      "Examples:\n"
      "  lowrank data fetch mnist\n"
      "  lowrank data info /usr/share/datasets/fashion-mnist\n"
      "  lowrank data export mnist --index 7 --out digit.png");
  add_data_fetch(data);
  add_data_info(data);
  add_data_export(data);
}

}  // namespace lowrank::cli
