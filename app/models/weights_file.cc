#include "app/models/weights_file.h"

#include <ATen/core/Tensor.h>

#include <fstream>
#include <string>

#include "app/models/base_model.h"

namespace lowrank::app {

bool is_archive(const std::filesystem::path& file) {
  if (!std::filesystem::is_regular_file(file)) return false;
  std::string begin(4, '\0');
  std::ifstream(file, std::ios::binary).read(begin.data(), 4);
  return begin == "PK\x03\x04";
}

Checkpoint open_weights(const std::filesystem::path& place) {
  if (!is_archive(place)) return Checkpoint::open(place);
  const auto model = BaseModel::from_script(place);
  auto tensors = model.named_parameters();
  const auto buffers = model.named_buffers();
  tensors.insert(tensors.end(), buffers.begin(), buffers.end());
  return Checkpoint::from_tensors(place, tensors);
}

}  // namespace lowrank::app
