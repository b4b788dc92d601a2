#include "cli/flags/common_flags.h"

namespace lowrank::cli {

void add_common_flags(const Flags& flags, app::CommonOptions& options) {
  const auto common = flags.under("Common options");
  common.option("--seed", &options.seed, "Seed of the random numbers (PyTorch's own)")
      .shows_default();
  common.option("--threads", &options.threads, "Threads; 0 takes all cores").shows_default();
  common.option("--device", &options.device, "auto, cpu or cuda").type_name("NAME").shows_default();
  common.option("--dtype", &options.dtype, "float32 or float64").type_name("NAME").shows_default();
  common.flag("--json", options.json, "Print one JSON object instead of text");
  common.flag("--quiet", options.quiet, "No progress, no notes");
  common.flag("--force", options.force, "Replace outputs that exist");
}

}  // namespace lowrank::cli
