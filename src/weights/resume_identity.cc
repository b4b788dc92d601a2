#include "weights/resume_identity.h"

#include <lowrank/io/sha256.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace lowrank {

nlohmann::ordered_json file_identity(const Checkpoint& checkpoint) {
  auto json = nlohmann::ordered_json::array();
  for (const auto& file : checkpoint.files()) {
    struct stat found = {};
    const auto path = checkpoint.is_folder() ? checkpoint.place() / file : checkpoint.place();
    ::stat(path.c_str(), &found);
    json.push_back({file.string(), found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec});
  }
  return json;
}

std::string sha256_of_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  Sha256 sum;
  std::string part(size_t{1} << 20, '\0');
  while (in) {
    in.read(part.data(), static_cast<std::streamsize>(part.size()));
    sum.update(part.data(), static_cast<size_t>(in.gcount()));
  }
  return sum.hex();
}

}  // namespace lowrank
