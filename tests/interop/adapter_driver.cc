#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

// adapter_driver JOBS RESULTS: the lowrank side of `make test-interop`, which handles many adapters
// in one process. A job names a TorchScript `model`, its `inputs` ("x"), a file to write `logits`
// ("y") to, and either a PEFT folder to `load`, or a config to `attach` with, a `seed` for random
// factors and a folder to `save` them in; `statistics` runs the model once in training, so that the
// statistics of normalisations that the config trains move. `others` names more adapters of the
// same config; then all are saved in that folder, and the logits of each are written under its
// name. A result has the job's `id`, and either an `error` or what was found.
namespace lowrank {
namespace {

using Json = nlohmann::json;

/// Moves everything that is trained away from its initial value, so that all of it matters.
void perturb(const Adapter& adapter, const std::string& of) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : adapter.named_parameters(of)) {
    const auto noise = at::randn_like(tensor) * 0.3;
    const bool is_factor =
        name.find("lora_") != std::string::npos && name.find("magnitude") == std::string::npos;
    at::Tensor(tensor).copy_(is_factor ? noise : tensor + noise);
  }
}

at::Tensor input_of(const Json& job) {
  return SafetensorsFile::open(job.at("inputs").get<std::string>()).tensor("x");
}

LoadedAdapter attach_and_save(torch::jit::Module& model, const Json& job) {
  const auto config = read_lora_config(job.at("attach").get<std::string>());
  auto adapter = attach(model, config);
  const auto others = job.value("others", std::vector<std::string>());
  for (const auto& name : others) adapter.add(name, config);
  at::manual_seed(job.at("seed").get<uint64_t>());
  for (const auto& name : adapter.names()) perturb(adapter, name);
  if (job.value("statistics", false)) {
    adapter.freeze_statistics(false);
    model.train();
    const at::NoGradGuard no_grad;
    model.forward({input_of(job)});
    model.eval();
  }
  const auto folder = job.at("save").get<std::string>();
  if (others.empty()) {
    adapter.save(folder, {.convert = job.value("convert", false)});
  } else {
    adapter.save_all(folder);
  }
  return {adapter, {}};
}

Json run(const Json& job) {
  auto model = torch::jit::load(job.at("model").get<std::string>());
  model.eval();
  const auto loaded = job.contains("load") ? load_adapter(model, job.at("load").get<std::string>())
                                           : attach_and_save(model, job);
  const at::NoGradGuard no_grad;
  const auto x = input_of(job);
  std::vector<SafetensorsEntry> logits = {{"y", model.forward({x}).toTensor()}};
  for (const auto& name : job.value("others", std::vector<std::string>())) {
    const auto use = loaded.adapter.use(name);
    logits.push_back({name, model.forward({x}).toTensor()});
  }
  write_safetensors(job.at("logits").get<std::string>(), logits);
  return {{"acts_like_base", loaded.report.acts_like_base},
          {"layers", loaded.adapter.layers().size()}};
}

Json result_of(const Json& job) {
  Json result;
  try {
    result = run(job);
  } catch (const Error& error) {
    result["error"] = error.what();
  } catch (const std::exception& error) {
    result["unforeseen"] =
        error.what();  // an error of another library, which users should never see
  }
  result["id"] = job.at("id");
  return result;
}

void run_all(const std::string& jobs, const std::string& results) {
  Json all = Json::array();
  for (const auto& job : read_json_file(jobs)) all.push_back(result_of(job));
  write_file_atomically(results, all.dump());
}

}  // namespace
}  // namespace lowrank

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: adapter_driver JOBS RESULTS\n");
    return 2;
  }
  try {
    lowrank::run_all(argv[1], argv[2]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "adapter_driver: {}\n", error.what());
    return 1;
  }
  return 0;
}
