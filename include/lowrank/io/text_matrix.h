#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace lowrank {

/// Reads a matrix from text, one row a line, as a float64 tensor (rows, columns).
///
/// - Numbers are separated by `;`, else by `,`, else by tabs, else by white space: the first of
///   these that stands in the first line decides for all (tabs beside blanks are white space).
///   Blanks around a number do not matter.
/// - `#` starts a comment, empty lines are skipped, CRLF and a UTF-8 byte order mark are taken.
/// - A first line without a single number is a header, and skipped.
/// - Decimal points only; `nan` and `inf` are read as such.
///
/// Throws FileError with `name`, the line and the column (of numbers), both counted from 1, for
/// anything that is no number, for an empty field, for rows of different lengths, and for text
/// that holds no row at all.
LOWRANK_API at::Tensor parse_text_matrix(std::string_view text, const std::string& name);

/// The same from a file or a pipe, of at most 4 GB.
LOWRANK_API at::Tensor read_text_matrix(const std::filesystem::path& path);

}  // namespace lowrank
