#include <lowrank/version.h>
#include <torch/version.h>

namespace lowrank {

const char* version() { return LOWRANK_VERSION; }
const char* libtorch_version() { return TORCH_VERSION; }

}  // namespace lowrank
