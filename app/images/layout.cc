#include "app/images/layout.h"

#include <lowrank/io/sha256.h>

#include <algorithm>
#include <vector>

#include "app/images/input_file.h"

namespace lowrank::app {

std::filesystem::path find_layout_file(const std::filesystem::path& folder,
                                       const std::string& name) {
  std::string dotted = name;
  const size_t dash = dotted.rfind("-idx");
  if (dash != std::string::npos) dotted[dash] = '.';
  for (const auto& spelling : {name, name + ".gz", dotted, dotted + ".gz"}) {
    std::error_code ignored;
    if (std::filesystem::exists(folder / spelling, ignored)) return folder / spelling;
  }
  return {};
}

std::string content_sha256(const std::filesystem::path& path, uint64_t most_bytes) {
  InputFile file(path, "data");
  std::vector<char> chunk(size_t{1} << 20);
  Sha256 digest;
  for (uint64_t left = most_bytes + 1; left > 0;) {
    const size_t got = file.read(chunk.data(), std::min<uint64_t>(left, chunk.size()));
    if (got == 0) break;
    digest.update(chunk.data(), got);
    left -= got;
  }
  return digest.hex();
}

}  // namespace lowrank::app
