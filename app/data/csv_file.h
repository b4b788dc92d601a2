#pragma once

#include <filesystem>

#include "app/data/source.h"

namespace lowrank::app {

/// Reads examples from a CSV file (RFC 4180, with a line of column names): one column holds the
/// labels, all others hold numbers. If the source names columns, these are read, and further ones
/// are left out. Throws FileError, naming the line and the column, for what is no finite number,
/// and for lines of other lengths.
Dataset read_csv(const std::filesystem::path& file, const DataSource& source);

}  // namespace lowrank::app
