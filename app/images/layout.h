#pragma once

#include <filesystem>
#include <string>

#include "app/images/mnist.h"

namespace lowrank::app {

/// Returns the path of the file `name` ("train-images-idx3-ubyte") in `folder`, in any of its usual
/// spellings: with ".gz" added, or as "train-images.idx3-ubyte". Returns an empty path if there is
/// none.
std::filesystem::path find_layout_file(const std::filesystem::path& folder,
                                       const std::string& name);

/// Returns the SHA-256 of a file's content, inflated if it is gzip. Reads at most `most_bytes` + 1
/// bytes of the content. Throws FileError like InputFile.
std::string content_sha256(const std::filesystem::path& path, uint64_t most_bytes);

}  // namespace lowrank::app
