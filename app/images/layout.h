#pragma once

#include <filesystem>
#include <string>

#include "app/images/mnist.h"

namespace lowrank::app {

/// The file of MNIST's layout called `name` ("train-images-idx3-ubyte") in `folder`, in any of its
/// usual spellings: with ".gz" behind it, or "train-images.idx3-ubyte". Empty where there is none.
std::filesystem::path find_layout_file(const std::filesystem::path& folder,
                                       const std::string& name);

/// The SHA-256 of a file's content, inflated where it is gzip; reads no more than `most_bytes` and
/// one. Throws FileError as InputFile does.
std::string content_sha256(const std::filesystem::path& path, uint64_t most_bytes);

}  // namespace lowrank::app
