#include "app/runs/runs.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/train/interrupt.h>
#include <lowrank/train/sampler.h>

#include <algorithm>
#include <optional>

#include "app/reports/evaluation_report.h"
#include "app/runs/figures.h"
#include "app/runs/folder_lock.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/terminal/progress.h"
#include "app/train/example_task.h"
#include "app/train/run_figures.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

ExampleTask example_task(const Base& base, const Dataset& data, const Resources& resources) {
  return {.forward = [model = base.model](const at::Tensor& x) { return model.forward(x); },
          .data = &data,
          .normalization = base.preparation.normalization,
          .device = resources.device,
          .dtype = resources.dtype};
}

TrainTask task_for(const Base& base, const ExampleTask& examples) {
  auto task = train_task(examples);
  task.indices = at::arange(task.examples, at::kLong);
  task.set_training = [model = base.model](bool training) { model.set_training(training); };
  return task;
}

/// What a run shows of itself, in the terminal and in its log.
struct Shown {
  const RunContext& context;
  const Json& identity;
  const ExampleTask& examples;
  const Adapter* adapter = nullptr;  // null for a base
};

/// "step 50/200: validation loss 0.1234, accuracy 0.9812, the best so far".
std::string words_on_validation(const TrainProgress& now) {
  auto text = fmt::format("step {}/{}: validation loss {:.4f}", now.step, now.total, now.loss);
  for (const auto& [name, value] : now.metrics) text += fmt::format(", {} {:.4f}", name, value);
  return text + (now.is_best ? ", the best so far" : "");
}

/// Trains with a progress bar, and with a log if the context has one.
TrainResult train_visibly(const TrainTask& task, const TrainOptions& options, const Shown& shown) {
  const auto& context = shown.context;
  std::optional<Progress> progress;  // it begins with the first step
  const auto on_step = [&](const TrainProgress& now) {
    if (!progress) {
      progress.emplace(context.title, now.total, "steps", context.quiet);
      progress->start_at(now.step - 1);
    }
    progress->update(now.step, now.loss);
    return true;
  };
  const auto on_validation = [&](const TrainProgress& now) {
    if (progress) progress->note(words_on_validation(now));
    return true;
  };
  const auto held_back =
      task.held_back.defined()
          ? task.held_back
          : split_validation(task.indices, options.validation, options.seed).validation;
  const auto on_log = [&](RunLog& log, const TrainProgress& now) {
    if (now.step == 0) return log_options(log, shown.identity);
    if (shown.adapter != nullptr) log_spectra(log, now.step, *shown.adapter);
    if (held_back.defined()) log_mistakes(log, now.step, shown.examples, held_back);
  };
  if (context.group != nullptr && context.writes() && context.group->size() > options.accumulate) {
    print_message(fmt::format(
        "note: --accumulate {} is less than the number of processes, {}, so some of them "
        "only wait. Pass --accumulate {}, or a multiple of it.",
        options.accumulate, context.group->size(), context.group->size()));
  }
  auto identity = shown.identity;  // of the checkpoint: the examples must be the same as well
  identity["examples"] = checksum(*shown.examples.data);
  const auto& named = context.resume_folder.empty() ? context.folder : context.resume_folder;
  std::string further = context.log_to.empty() ? "" : " --log-to " + context.log_to.string();
  if (context.group != nullptr) further += " --processes N";
  return train(task, options,
               {.checkpoint = checkpoint_of(context.folder),
                .identity = to_text(identity, -1),
                .resume = context.resume,
                .how_to_resume = fmt::format("go on with: {} {} --resume {}{}", program_name(),
                                             context.command, named.string(), further),
                .log_to = context.log_to,
                .on_log = on_log,
                .group = context.group,
                .shared_identity = context.group == nullptr ? std::string()
                                                            : shared_identity(*shown.examples.data),
                .on_step = on_step,
                .on_validation = on_validation});
}

std::unique_ptr<FolderLock> lock_of(const RunContext& context) {
  return context.writes() ? std::make_unique<FolderLock>(context.folder) : nullptr;
}

/// The files that say how a model was trained, and how that went step by step.
std::vector<std::pair<std::string, std::string>> files_on_training(const Json& identity,
                                                                   const TrainResult& result,
                                                                   const Json& figures,
                                                                   const Json& preparation = {}) {
  Json json;
  json["run"] = identity;
  json["result"] = to_json(result, /*with_times=*/false);
  if (!preparation.is_null()) json["preparation"] = preparation;
  return {{kTrainingFile, to_text(json) + "\n"},
          {kHistoryFile, to_text(to_json(result.history), -1) + "\n"},
          {kFiguresFile, to_text(figures, -1) + "\n"}};
}

/// What the report of a run shows of its model.
Json figures_of(const Base& base, const Adapter* adapter, const RunContext& context) {
  int64_t numbers = 0;
  for (const auto& [name, parameter] : base.model.named_parameters()) numbers += parameter.numel();
  Json figures = {{"parameters", numbers}};
  if (adapter != nullptr) {
    figures["adapter_parameters"] = adapter->parameter_count();
    figures["layers"] = layer_figures(*adapter);
  }
  if (context.held_out == nullptr) return figures;
  const auto outputs = [&] { return outputs_of(base, *context.held_out, context.resources); };
  const auto own = outputs();
  if (adapter == nullptr) {
    figures["evaluation"] = evaluation_figures(*context.held_out, own);
  } else {
    const DisableAdapter disabled(*adapter);
    figures["evaluation"] = evaluation_figures(*context.held_out, outputs(), own);
  }
  return figures;
}

/// Holds back a share of the class and the same share of the others: on the class alone, what
/// forgets most of the others would be best.
void hold_back_both(TrainTask& task, const TrainOptions& options) {
  const auto own = split_validation(task.indices, options.validation, options.seed);
  const auto others = split_validation(task.replay_indices, options.validation, options.seed);
  task.indices = own.train;
  task.replay_indices = others.train;
  task.held_back = at::cat({own.validation, others.validation});
}

/// Runs the first batches of the training forward, and for LoRA-GA backward as well.
void run_first_batches(const FinetuneRun& run, const TrainTask& task, const ExampleTask& examples) {
  const auto& train = run.train;
  const double share = task.held_back.defined() ? 0 : train.validation;
  const auto split = split_validation(task.indices, share, train.seed);
  const SamplerOptions options = {
      .batch_size = train.batch_size, .seed = train.seed, .replay = train.replay};
  Sampler sampler(split.train, options, task.replay_indices);
  for (int64_t i = 0; i < run.init_batches; ++i) {
    const auto indices = sampler.next();
    if (run.lora.init == LoraInit::kLoraGa) {
      task.loss(indices).backward();
    } else {
      outputs_at(examples, indices);
    }
  }
}

/// Attaches a new adapter, or the finished one that the run goes on from.
Adapter starting_adapter(const FinetuneRun& run, const Base& base, const TrainTask& task,
                         const ExampleTask& examples, const RunContext& context) {
  // The factors depend only on the seed, not on what this process has drawn before.
  at::manual_seed(run.common.seed);
  if (run.adapter.empty()) {
    const auto plan = base.model.plan(run.lora);
    if (context.resume) {
      require_checkpoint_size(checkpoint_of(context.folder),
                              static_cast<double>(plan.trained_parameters));
    }
    require_memory_to_train("finetune", "adapter", static_cast<double>(plan.trained_parameters),
                            "Lower --rank.");
    return base.model.attach(run.lora, [&] { run_first_batches(run, task, examples); });
  }
  require_finished(run.adapter);
  auto [adapter, report] = base.model.load_adapter(run.adapter);
  warn(report, run.adapter);
  return adapter;
}

/// Runs one forward pass, and throws ArgumentError if it does not reach every adapted layer,
/// TensorError if its outputs are not finite or it changes buffers, which an adapter cannot hold.
void require_trainable(const Adapter& adapter, const BaseModel& model,
                       const ExampleTask& examples) {
  const at::NoGradGuard no_grad;
  require_finite_outputs(outputs_at(examples, at::zeros({1}, at::kLong)), model);
  const auto changed = adapter.changed_buffers();
  if (!changed.empty()) {
    fail<TensorError>("finetune", "the model must not change its buffers when it computes",
                      list_names(changed), "Name their modules in --modules-to-save.");
  }
  const auto unreached = adapter.unreached_layers();
  if (unreached.empty()) return;
  fail<ArgumentError>("finetune", "a forward pass must reach every adapted layer",
                      fmt::format("one that does not use {}", list_names(unreached)),
                      "Leave them out of --target-modules.");
}

}  // namespace

Json identity(const BaseRun& run, const Resources& resources, bool is_shared) {
  auto json = to_json(run.common, resources);
  if (is_shared) json["shared_batches"] = true;  // they seed what the model draws
  add_data_options(json, run.data);
  json["sizes"] = run.sizes;
  json["mean"] = one_or_all(run.normalization.mean);
  json["deviation"] = one_or_all(run.normalization.deviation);
  json["train"] = to_json(run.train);
  return json;
}

Json identity(const FinetuneRun& run, const std::string& base_sha256, const Resources& resources,
              bool is_shared) {
  auto json = to_json(run.common, resources);
  if (is_shared) json["shared_batches"] = true;
  json["base"] = run.base;
  json["base_sha256"] = base_sha256;
  add_data_options(json, run.data);
  json["only"] = run.only ? Json(*run.only) : Json(nullptr);
  if (!run.adapter.empty()) json["adapter"] = run.adapter;
  json["lora"] = to_json(run.lora);
  json["init_batches"] = run.init_batches;
  json["lora_plus_ratio"] = run.lora_plus_ratio;
  json["train"] = to_json(run.train);
  return json;
}

std::string words_on_result(const TrainResult& result) {
  std::string text;
  if (result.best_step > 0) {
    text = fmt::format(
        " The best validation loss was {:.4f}, after step {}, whose parameters were "
        "kept.",
        result.best_validation_loss, result.best_step);
  }
  if (result.end == TrainEnd::kPatience) text += " Ended by --patience.";
  if (result.end == TrainEnd::kSeconds) text += " Ended by --time-limit.";
  return text;
}

Json to_json(const TrainResult& result, bool with_times) {
  Json json;
  json["steps"] = result.steps;
  json["mean_loss"] = result.mean_loss;
  if (result.best_step > 0) {
    json["best_step"] = result.best_step;
    json["best_validation_loss"] = result.best_validation_loss;
  }
  if (with_times) {
    json["seconds"] = result.seconds;
    json["steps_per_second"] = result.steps_per_second;
  }
  return json;
}

BaseResult train_base(const BaseRun& run, const Dataset& data, const RunContext& context) {
  TrainedMlp trained{Mlp(MlpOptions{.sizes = run.sizes}),
                     preparation_of(data, run.normalization, run.data)};
  Base base(trained);
  base.model.to(context.resources.device, context.resources.dtype);
  auto own = data;
  fit(base, own);
  const auto examples = example_task(base, data, context.resources);
  auto task = task_for(base, examples);
  task.parameters = trained_parameters(*trained.model);
  const auto id = identity(run, context.resources, context.group != nullptr);
  task.accelerated = trained.model.get();
  const auto lock = lock_of(context);
  const auto result = train_visibly(task, run.train, {context, id, examples});
  if (!context.writes()) return {trained, result};
  trained.model->zero_grad(/*set_to_none=*/true);  // later steps must not see old gradients
  const InterruptGuard uninterrupted;              // a signal waits until the files are written
  save_mlp(trained, context.folder,
           files_on_training(id, result, figures_of(base, nullptr, context)));
  std::filesystem::remove(checkpoint_of(context.folder));
  return {trained, result};
}

FinetuneResult finetune(const FinetuneRun& run, const Base& base, const Dataset& data,
                        const RunContext& context) {
  auto model = base.model;
  model.set_trains_statistics(!run.lora.modules_to_save.empty() || !run.adapter.empty());
  const auto examples = example_task(base, data, context.resources);
  auto task = task_for(base, examples);
  if (run.only) task.indices = indices_of_class(data, *run.only);
  if (run.train.replay > 0) {
    if (!run.only) {
      fail<ArgumentError>("finetune", "--replay must be given together with --only", "no --only");
    }
    task.replay_indices = indices_of_other_classes(data, *run.only);
    if (task.replay_indices.numel() == 0) {
      fail<ArgumentError>("finetune", "--replay must have other classes to draw from",
                          fmt::format("a data set with examples of class {} alone", *run.only));
    }
    if (run.train.validation > 0) hold_back_both(task, run.train);
  }
  const auto base_sha256 = base.model.fingerprint();
  auto adapter = starting_adapter(run, base, task, examples, context);
  require_trainable(adapter, base.model, examples);
  task.parameters = trained_parameters(adapter, run.lora_plus_ratio);
  auto own = run;
  own.lora = run.adapter.empty() ? run.lora : adapter.config();
  const auto id = identity(own, base_sha256, context.resources, context.group != nullptr);
  const auto lock = lock_of(context);
  auto options = run.train;
  if (task.held_back.defined()) options.validation = 0;  // the task has them
  const auto result = train_visibly(task, options, {context, id, examples, &adapter});
  if (!context.writes()) return {adapter, result};
  const auto figures = figures_of(base, &adapter, context);
  const InterruptGuard uninterrupted;
  Json preparation;  // a TorchScript file has no place for it
  if (base.model.is_script()) {
    add_preparation(preparation, preparation_of(data, base.preparation.normalization, run.data));
  }
  adapter.save(context.folder,
               {.force = true,
                .base_model = run.base,
                .further_files = files_on_training(id, result, figures, preparation)});
  std::filesystem::remove(checkpoint_of(context.folder));
  return {adapter, result};
}

}  // namespace lowrank::app
