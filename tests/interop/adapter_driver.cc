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

// adapter_driver JOBS RESULTS: the lowrank side of `make test-interop`, many adapters in one
// process. A job names a TorchScript `model`, its `inputs` ("x") and where `logits` ("y") go, and
// either a PEFT folder to `load`, or a config to `attach` by, a `seed` for random factors and a
// folder to `save` them in. A result has the job's `id`, and the `error` or what was found.
namespace lowrank {
namespace {

using Json = nlohmann::json;

/// What is trained differs from where it starts, so that all of it matters.
void perturb(const Adapter& adapter, uint64_t seed) {
  const at::NoGradGuard no_grad;
  at::manual_seed(seed);
  for (const auto& [name, tensor] : adapter.named_parameters()) {
    const auto noise = at::randn_like(tensor) * 0.3;
    const bool is_factor =
        name.find("lora_") != std::string::npos && name.find("magnitude") == std::string::npos;
    at::Tensor(tensor).copy_(is_factor ? noise : tensor + noise);
  }
}

LoadedAdapter attach_and_save(torch::jit::Module& model, const Json& job) {
  auto adapter = attach(model, read_lora_config(job.at("attach").get<std::string>()));
  perturb(adapter, job.at("seed").get<uint64_t>());
  adapter.save(job.at("save").get<std::string>(), {.plain_form = job.value("plain_form", false)});
  return {adapter, {}};
}

Json run(const Json& job) {
  auto model = torch::jit::load(job.at("model").get<std::string>());
  model.eval();
  const auto loaded = job.contains("load") ? load_adapter(model, job.at("load").get<std::string>())
                                           : attach_and_save(model, job);
  const at::NoGradGuard no_grad;
  const auto x = SafetensorsFile::open(job.at("inputs").get<std::string>()).tensor("x");
  const auto y = model.forward({x}).toTensor();
  write_safetensors(job.at("logits").get<std::string>(), {{"y", y}});
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
    result["unforeseen"] = error.what();  // of another library: never a sentence for users
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
