#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace lowrank {

/// Reads a matrix from text, one row per line, as a float64 tensor (rows, columns).
///
/// - Numbers are separated by `;`, `,`, tabs or white space: the first of these that occurs in the
///   first line is the separator of all lines (tabs mixed with blanks count as white space). Blanks
///   around a number do not matter.
/// - `#` starts a comment, empty lines are skipped, CRLF and a UTF-8 byte order mark are accepted.
/// - A first line that contains no number is a header and is skipped.
/// - Only decimal points are accepted, not decimal commas; `nan` and `inf` are read as such.
///
/// Throws FileError with `name`, the line and the column (in numbers), both counted from 1, for
/// anything that is not a number, for an empty field, for rows of different lengths, and for text
/// that has no rows.
LOWRANK_API at::Tensor parse_text_matrix(std::string_view text, const std::string& name);

/// Reads the same from a file or a pipe, of at most 4 GB.
LOWRANK_API at::Tensor read_text_matrix(const std::filesystem::path& path);

}  // namespace lowrank
