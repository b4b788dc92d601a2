#pragma once

#include <lowrank/io/safetensors.h>
#include <lowrank/optim/adam.h>

#include <map>
#include <string>
#include <vector>

namespace lowrank {

/// What a file holds of an Adam: the tensors exp_avg.<name> and exp_avg_sq.<name> of each parameter
/// that has taken a step, and in the metadata how many steps each has taken.
void append_moments(const Adam& optimizer, const std::vector<std::string>& names,
                    std::vector<SafetensorsEntry>& entries,
                    std::map<std::string, std::string>& metadata);

/// Throws FileError if the file does not hold the moments of these parameters.
void restore_moments(Adam& optimizer, const std::vector<std::string>& names,
                     const SafetensorsFile& file);

}  // namespace lowrank
