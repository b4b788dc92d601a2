#include "app/runs/runs.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <lowrank/train/interrupt.h>
#include <lowrank/train/sampler.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "app/reports/evaluation_report.h"
#include "app/runs/folder_lock.h"
#include "app/terminal/message.h"
#include "app/terminal/progress.h"
#include "app/train/evaluate.h"
#include "app/train/image_task.h"
#include "app/train/run_figures.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kTrainingFile = "training.json";
constexpr const char* kHistoryFile = "history.json";

std::function<at::Tensor(const at::Tensor&)> forward_of(const ImageClassifier& classifier) {
  return [model = classifier.model](const at::Tensor& x) mutable { return model->forward(x); };
}

ImageTask image_task(const ImageClassifier& classifier, const ImageDataset& data,
                     const Resources& resources) {
  return {.forward = forward_of(classifier),
          .data = &data,
          .normalization = classifier.normalization,
          .device = resources.device,
          .dtype = resources.dtype};
}

TrainTask task_for(const ImageClassifier& classifier, const ImageTask& images) {
  auto task = train_task(images);
  task.indices = at::arange(task.examples, at::kLong);
  task.set_training = [model = classifier.model](bool training) mutable { model->train(training); };
  return task;
}

/// What a run shows of itself, in the terminal and in its log.
struct Shown {
  const RunContext& context;
  const Json& identity;
  const ImageTask& images;
  const Adapter* adapter = nullptr;  // null for a base
};

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
  const auto held_back =
      split_validation(task.indices, options.validation, options.seed).validation;
  const auto on_log = [&](RunLog& log, const TrainProgress& now) {
    if (now.step == 0) return log_options(log, shown.identity);
    if (shown.adapter != nullptr) log_spectra(log, now.step, *shown.adapter);
    if (held_back.defined()) log_mistakes(log, now.step, shown.images, held_back);
  };
  const auto& named = context.resume_folder.empty() ? context.folder : context.resume_folder;
  return train(task, options,
               {.checkpoint = checkpoint_of(context.folder),
                .identity = to_text(shown.identity, -1),
                .resume = context.resume,
                .how_to_resume = fmt::format("go on with: {} {} --resume {}", program_name(),
                                             context.command, named.string()),
                .log_to = context.log_to,
                .on_log = on_log,
                .on_step = on_step});
}

/// The files that say how a model was trained, and how that went step by step.
std::vector<std::pair<std::string, std::string>> files_on_training(const Json& identity,
                                                                   const TrainResult& result) {
  Json json;
  json["run"] = identity;
  json["result"] = to_json(result, /*with_times=*/false);
  return {{kTrainingFile, to_text(json) + "\n"},
          {kHistoryFile, to_text(to_json(result.history), -1) + "\n"}};
}

/// Runs the first batches of the training forward, and for LoRA-GA backward as well.
void run_first_batches(const FinetuneRun& run, const TrainTask& task, const ImageTask& images) {
  const auto& train = run.train;
  const auto split = split_validation(task.indices, train.validation, train.seed);
  const SamplerOptions options = {
      .batch_size = train.batch_size, .seed = train.seed, .replay = train.replay};
  Sampler sampler(split.train, options, task.replay_indices);
  for (int64_t i = 0; i < run.init_batches; ++i) {
    const auto indices = sampler.next();
    if (run.lora.init == LoraInit::kLoraGa) {
      task.loss(indices).backward();
    } else {
      logits_at(images, indices);
    }
  }
}

/// Attaches a new adapter, or the finished one that the run goes on from.
Adapter starting_adapter(const FinetuneRun& run, ImageClassifier& classifier, const TrainTask& task,
                         const ImageTask& images, const RunContext& context) {
  // The factors depend only on the seed, not on what this process has drawn before.
  at::manual_seed(run.common.seed);
  if (run.adapter.empty()) {
    const auto plan = plan_adapter(*classifier.model, run.lora);
    if (context.resume) {
      require_checkpoint_size(checkpoint_of(context.folder),
                              static_cast<double>(plan.trained_parameters));
    }
    require_memory_to_train("finetune", "adapter", static_cast<double>(plan.trained_parameters),
                            "Lower --rank.");
    return attach(*classifier.model, run.lora, [&] { run_first_batches(run, task, images); });
  }
  require_finished(run.adapter);
  auto [adapter, report] = load_adapter(*classifier.model, run.adapter);
  warn(report, run.adapter);
  return adapter;
}

/// Runs one forward pass, and throws ArgumentError if it does not reach every adapted layer.
void require_reached(const Adapter& adapter, const ImageTask& images) {
  const at::NoGradGuard no_grad;
  logits_at(images, at::zeros({1}, at::kLong));
  const auto unreached = adapter.unreached_layers();
  if (unreached.empty()) return;
  fail<ArgumentError>("finetune", "a forward pass must reach every adapted layer",
                      fmt::format("one that does not use {}", list_names(unreached)),
                      "Leave them out of --target-modules.");
}

void require_checkpoint(const std::filesystem::path& folder) {
  std::error_code none;
  const auto checkpoint = checkpoint_of(folder);
  if (std::filesystem::exists(checkpoint, none)) return;
  const bool finished = std::filesystem::exists(folder / "adapter_config.json", none);
  fail<FileError>(
      "resume", fmt::format("\"{}\" must exist", checkpoint.string()), "no such file",
      "A finished run keeps no checkpoint, so there is nothing to resume." +
          (finished ? fmt::format(" Go on from its adapter with lowrank finetune BASE --adapter {} "
                                  "--out NEW.",
                                  folder.string())
                    : std::string()));
}

bool is_identity_of_finetune(const Json& identity) {
  return identity.is_object() && identity.contains("lora");
}

/// Returns whether the checkpoint in a folder is one of finetune, as far as it can be read.
bool is_of_finetune(const std::filesystem::path& folder) {
  try {
    return is_identity_of_finetune(parse_ordered_json(checkpoint_identity(checkpoint_of(folder)),
                                                      "the identity of a checkpoint", "resume"));
  } catch (const FileError&) {
    return false;
  }
}

}  // namespace

std::filesystem::path checkpoint_of(const std::filesystem::path& folder) {
  return folder / "checkpoint.safetensors";
}

void require_new_run_folder(const std::filesystem::path& folder, bool force) {
  const auto checkpoint = checkpoint_of(folder);
  if (std::error_code none; !force && std::filesystem::exists(checkpoint, none)) {
    fail<FileError>(
        "output", fmt::format("\"{}\" must not exist yet, or be empty", folder.string()),
        "an interrupted run",
        fmt::format("Go on with --resume \"{}\", or pass --force to start over.", folder.string()));
  }
  require_writable_output(folder, force);
}

void require_new_log(const std::filesystem::path& folder, bool force) {
  const auto metrics = folder / "metrics.jsonl";
  std::error_code none;
  if (folder.empty() || force || !std::filesystem::exists(metrics, none)) return;
  fail<FileError>("log", fmt::format("\"{}\" must not exist yet", metrics.string()),
                  "the log of another run", "Name another folder, or pass --force to replace it.");
}

void require_finished(const std::filesystem::path& folder) {
  std::error_code none, error;
  if (const auto status = std::filesystem::status(folder, error);
      !std::filesystem::exists(status)) {
    const bool is_missing = status.type() == std::filesystem::file_type::not_found;
    fail<FileError>("load", fmt::format("there must be a folder \"{}\"", folder.string()),
                    is_missing ? "none" : fmt::format("\"{}\"", error.message()));
  }
  const bool is_finished = std::filesystem::exists(folder / "config.json", none) ||
                           std::filesystem::exists(folder / "adapter_config.json", none);
  if (is_finished || !std::filesystem::exists(checkpoint_of(folder), none)) return;
  const auto* command = is_of_finetune(folder) ? "finetune" : "train";
  fail<FileError>(
      "load", fmt::format("\"{}\" must hold a finished run", folder.string()),
      "one that was interrupted",
      fmt::format("Finish it with: {} {} --resume {}", program_name(), command, folder.string()));
}

void with_checkpoint_identity(const std::filesystem::path& folder,
                              const std::function<void(const nlohmann::ordered_json&)>& take) {
  const auto file = checkpoint_of(folder).string();
  require_checkpoint(folder);
  const auto identity = parse_ordered_json(checkpoint_identity(file),
                                           fmt::format("the identity in \"{}\"", file), "resume");
  try {
    take(identity);
  } catch (const nlohmann::json::exception&) {
    const auto* command = is_identity_of_finetune(identity) ? "finetune" : "train";
    fail<FileError>(
        "resume", fmt::format("\"{}\" must be a checkpoint of this command", file),
        fmt::format("one of {} {}", program_name(), command),
        fmt::format("Go on with: {} {} --resume {}", program_name(), command, folder.string()));
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file));
  }
}

void require_checkpoint_size(const std::filesystem::path& checkpoint, double numbers) {
  const auto bytes = static_cast<double>(std::filesystem::file_size(checkpoint));
  if (numbers * sizeof(float) <= bytes) return;
  fail<FileError>("resume",
                  fmt::format("\"{}\" must hold the parameters of its run", checkpoint.string()),
                  fmt::format("{:.0f} bytes for {:.0f} numbers", bytes, numbers));
}

Json identity(const BaseRun& run, const Resources& resources) {
  auto json = to_json(run.common, resources);
  json["data"] = run.data;
  json["sizes"] = run.sizes;
  json["mean"] = run.normalization.mean;
  json["deviation"] = run.normalization.deviation;
  json["train"] = to_json(run.train);
  return json;
}

Json identity(const FinetuneRun& run, const std::string& base_sha256, const Resources& resources) {
  auto json = to_json(run.common, resources);
  json["base"] = run.base;
  json["base_sha256"] = base_sha256;
  json["data"] = run.data;
  json["only"] = run.only ? Json(*run.only) : Json(nullptr);
  if (!run.adapter.empty()) json["adapter"] = run.adapter;
  json["lora"] = to_json(run.lora);
  json["init_batches"] = run.init_batches;
  json["lora_plus_ratio"] = run.lora_plus_ratio;
  json["train"] = to_json(run.train);
  return json;
}

std::string words_on_end(const TrainResult& result) {
  if (result.end == TrainEnd::kPatience) {
    return fmt::format(" Ended by --patience; the parameters of step {} were kept.",
                       result.best_step);
  }
  return result.end == TrainEnd::kSeconds ? " Ended by --time-limit." : "";
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

/// The data set as another command finds it from any folder. Empty, which means unknown, for a name
/// that cannot be written to a JSON file as it is.
std::string named_data(const std::string& data) {
  if (data == "mnist") return data;
  auto name = std::filesystem::absolute(data).lexically_normal().string();
  return printable(name) == name ? name : std::string();
}

BaseResult train_base(const BaseRun& run, const ImageDataset& data, const RunContext& context) {
  ImageClassifier classifier{Mlp(MlpOptions{.sizes = run.sizes}), run.normalization,
                             data.images.size(1), data.images.size(2), named_data(run.data)};
  classifier.model->to(context.resources.device, context.resources.dtype);
  require_fit(classifier, data);
  const auto images = image_task(classifier, data, context.resources);
  auto task = task_for(classifier, images);
  task.parameters = trained_parameters(*classifier.model);
  const auto id = identity(run, context.resources);
  task.accelerated = classifier.model.get();
  const FolderLock lock(context.folder);
  const auto result = train_visibly(task, run.train, {context, id, images});
  classifier.model->zero_grad(/*set_to_none=*/true);  // later steps must not see old gradients
  const InterruptGuard uninterrupted;                 // a signal waits until the files are written
  save_classifier(classifier, context.folder, files_on_training(id, result));
  std::filesystem::remove(checkpoint_of(context.folder));
  return {classifier, result};
}

FinetuneResult finetune(const FinetuneRun& run, ImageClassifier& classifier,
                        const ImageDataset& data, const RunContext& context) {
  require_fit(classifier, data);
  const auto images = image_task(classifier, data, context.resources);
  auto task = task_for(classifier, images);
  if (run.only) task.indices = indices_of_class(data, *run.only);
  if (run.train.replay > 0) {
    if (!run.only) {
      fail<ArgumentError>("finetune", "--replay must be given together with --only", "no --only");
    }
    task.replay_indices = indices_of_other_classes(data, *run.only);
    if (task.replay_indices.numel() == 0) {
      fail<ArgumentError>("finetune", "--replay must have other classes to draw from",
                          fmt::format("a data set with images of class {} alone", *run.only));
    }
  }
  const auto base_sha256 = base_fingerprint(*classifier.model);
  auto adapter = starting_adapter(run, classifier, task, images, context);
  require_reached(adapter, images);
  task.parameters = trained_parameters(adapter, run.lora_plus_ratio);
  auto own = run;
  own.lora = run.adapter.empty() ? run.lora : adapter.config();
  const auto id = identity(own, base_sha256, context.resources);
  const FolderLock lock(context.folder);
  const auto result = train_visibly(task, run.train, {context, id, images, &adapter});
  const InterruptGuard uninterrupted;
  adapter.save(
      context.folder,
      {.force = true, .base_model = run.base, .further_files = files_on_training(id, result)});
  std::filesystem::remove(checkpoint_of(context.folder));
  return {adapter, result};
}

std::string data_for(const ImageClassifier& base, const std::string& given) {
  if (given.empty()) {
    const auto data = base.data.empty() ? "mnist" : base.data;
    std::error_code none;
    if (data == "mnist" || std::filesystem::is_directory(data, none)) return data;
    fail<FileError>("data", "the data set that the base was trained on must be where it was",
                    fmt::format("no folder \"{}\"", data), "Name it with --data.");
  }
  if (!base.data.empty() && named_data(given) != base.data) {
    print_message(fmt::format(
        "warning: the base was trained on {}, not on {}: its figures here say little about it.",
        base.data, given));
  }
  return given;
}

ImageClassifier load_base(const std::filesystem::path& folder, const Resources& resources) {
  require_finished(folder);
  auto classifier = load_classifier(folder);
  const auto read = classifier.model->parameters().front().scalar_type();
  classifier.model->to(resources.device, resources.dtype);
  for (const auto& item : classifier.model->named_parameters()) {
    if (read == resources.dtype) break;  // load_classifier() has checked these numbers
    if (at::isfinite(item.value()).all().item<bool>()) continue;
    fail<FileError>("load",
                    fmt::format("\"{}\" in \"{}\" must be finite as {}", item.key(),
                                folder.string(), c10::toString(resources.dtype)),
                    "numbers that are too large for it", "Pass --dtype float64.");
  }
  return classifier;
}

at::Tensor logits_of(const ImageClassifier& classifier, const ImageDataset& data,
                     const Resources& resources) {
  const auto logits = compute_logits(forward_of(classifier), data, classifier.normalization,
                                     resources.dtype, resources.device);
  require_finite_outputs(logits);
  return logits;
}

void require_finite_outputs(const at::Tensor& outputs) {
  const auto broken = at::isfinite(outputs).logical_not().any(/*dim=*/1).sum().item<int64_t>();
  if (broken == 0) return;
  fail<TensorError>("model", "the model's outputs must be finite",
                    fmt::format("NaN or Inf for {} of {} images", broken, outputs.size(0)),
                    "Its weights are too large for this dtype, or its training diverged.");
}

void require_fit(const ImageClassifier& classifier, const ImageDataset& data) {
  const auto& sizes = classifier.model->options().sizes;
  const auto pixels = data.images.size(1) * data.images.size(2);
  if (sizes.front() != pixels || sizes.back() != data.classes) {
    fail<ArgumentError>("model",
                        fmt::format("the model for {} must have {} inputs and {} outputs",
                                    data.name, pixels, data.classes),
                        fmt::format("{} and {}", sizes.front(), sizes.back()));
  }
}

}  // namespace lowrank::app
