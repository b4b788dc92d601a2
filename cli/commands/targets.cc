#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <filesystem>
#include <memory>

#include "app/models/base_model.h"
#include "app/models/model_folder.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/flag_names.h"
#include "cli/flags/lora_flags.h"

namespace lowrank::cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct TargetsCommand {
  app::CommonOptions common;
  std::string model;
  LoraConfig lora;
};

constexpr auto kTargetsExamples = R"(Examples:
  lowrank targets base/
  lowrank targets classifier.pt --target-modules embedding,lstm --rank 4
  lowrank targets classifier.pt --target-regex '.*\.(query|value)' \
    --rank-pattern query=16 --json)";

AdapterPlan plan_for(const fs::path& model, const LoraConfig& config) {
  if (!fs::exists(model)) {
    fail<FileError>("targets", "the model must be a model folder or a TorchScript file",
                    fmt::format("nothing at \"{}\"", model.string()));
  }
  const auto base = fs::is_directory(model) ? app::BaseModel(app::load_mlp(model).model)
                                            : app::BaseModel::from_script(model);
  return base.plan(config);
}

double share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

Json to_json(const AdapterPlan& plan) {
  Json json;
  json["layers"] = Json::array();
  for (const auto& layer : plan.layers) {
    json["layers"].push_back({{"name", layer.name},
                              {"kind", layer.kind},
                              {"shape", layer.shape},
                              {"rank", layer.rank},
                              {"alpha", layer.alpha},
                              {"scaling", layer.scaling},
                              {"parameters", layer.parameters},
                              {"share", share(layer.parameters, layer.weights)}});
  }
  json["whole"] = Json::array();
  for (const auto& whole : plan.whole) {
    json["whole"].push_back(
        {{"name", whole.name}, {"shape", whole.shape}, {"parameters", whole.parameters}});
  }
  json["model_parameters"] = plan.model_parameters;
  json["trained_parameters"] = plan.trained_parameters;
  json["share"] = share(plan.trained_parameters, plan.model_parameters);
  return json;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

void print(const AdapterPlan& plan) {
  app::Table table({"layer", "kind", "shape", "rank", "alpha", "parameters", "of the weight"});
  for (const auto& layer : plan.layers) {
    table.add({layer.name.empty() ? "(the model)" : layer.name, layer.kind, shape_text(layer.shape),
               std::to_string(layer.rank), fmt::format("{}", layer.alpha),
               app::with_thousands(layer.parameters),
               percent(share(layer.parameters, layer.weights))});
  }
  for (const auto& whole : plan.whole) {
    table.add({whole.name, "whole", shape_text(whole.shape), "", "",
               app::with_thousands(whole.parameters), percent(1)});
  }
  fmt::print("{}{} parameters to train, {} of the model's {}.\n",
             table.text(app::terminal_width(stdout)), app::with_thousands(plan.trained_parameters),
             percent(share(plan.trained_parameters, plan.model_parameters)),
             app::with_thousands(plan.model_parameters));
}

void run_targets(const Flags& flags, TargetsCommand& command) {
  app::apply_common_options(command.common);
  complete_lora(flags, command.lora);
  const auto plan = plan_for(command.model, command.lora);
  if (command.common.json) {
    fmt::print("{}\n", to_text(to_json(plan)));
  } else {
    print(plan);
  }
}

}  // namespace

void add_targets(const Flags& flags) {
  auto command = std::make_shared<TargetsCommand>();
  const auto targets = flags.command("targets", "Show which layers of a model would be adapted");
  targets.option("model", &command->model, "Folder of a model, or a TorchScript file")
      .type_name("MODEL")
      .required();
  add_lora_flags(targets, command->lora);
  add_common_flags(targets, command->common, {.seed = false, .force = false});
  targets.footer(kTargetsExamples);
  targets.action([targets, command] {
    with_names_of_flags(targets, [&] { run_targets(targets, *command); });
  });
}

}  // namespace lowrank::cli
