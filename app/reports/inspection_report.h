#pragma once

#include <lowrank/adapter/inspect.h>
#include <lowrank/linalg/spectrum.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

/// What `lowrank info` shows of adapters and models.
namespace lowrank::app {

/// An adapter's folder: its config, layers and files. `spectra` are those of its layers, or empty.
struct AdapterReport {
  InspectedAdapter adapter;
  std::vector<Spectrum> spectra;
  uintmax_t bytes = 0;  // of the folder's files
};

void print_report(const AdapterReport& report);
nlohmann::ordered_json to_json(const AdapterReport& report);

/// Prints what `--json` holds of a model: "tensors", "parameters", "bytes", and "config" or
/// "base_sha256" where they are known.
void print_model(const nlohmann::ordered_json& model, bool with_spectrum);

}  // namespace lowrank::app
