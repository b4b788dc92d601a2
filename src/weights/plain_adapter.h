#pragma once

#include <filesystem>
#include <string>

#include "adapter/peft/folder.h"

namespace lowrank {

/// Reads an adapter whose layers' updates are s·B·A and nothing else, so that its folder says
/// everything without the model. Throws FileError for experts (target_parameters), an init whose
/// factors PEFT takes off the base, factors of rank 0, no factors at all, and for DoRA unless
/// `with_dora`, which leaves the magnitudes among the other tensors.
AdapterFolder read_plain_adapter(const std::filesystem::path& folder, const char* operation,
                                 bool with_dora = false);

/// The last part of the key of DoRA's magnitudes.
constexpr const char* kMagnitudeKey = ".lora_magnitude_vector";

/// Returns a note where the file has "lora_B.bias" though its config does not say lora_bias, as
/// mergekit writes it; otherwise nothing.
std::string note_of_biases(const AdapterFolder& adapter, const std::filesystem::path& folder);

}  // namespace lowrank
