#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "app/images/image_file.h"
#include "app/reports/evaluation_report.h"
#include "app/runs/runs.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "app/terminal/terminal_image.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"

namespace lowrank::cli {
namespace {

struct PredictCommand {
  app::CommonOptions common;
  std::string base;
  std::string image;
  std::string adapter;
  std::string data;  // empty: the base's own
  std::optional<int64_t> index;
  bool invert = false;
};

constexpr auto kPredictExamples = R"(Examples:
  lowrank predict base/ --adapter two/ digit.png
  lowrank predict base/ --adapter two/ --data mnist --index 17)";

struct Picture {
  at::Tensor pixels;  // uint8 (H, W)
  std::optional<int64_t> label;
};

Picture picture_of(const PredictCommand& command) {
  if (command.image.empty() == !command.index) {
    fail<ArgumentError>("predict", "one image must be given, as a file or as --index",
                        command.index ? "both" : "neither");
  }
  if (!command.index) return {app::read_grayscale_image(command.image), std::nullopt};
  const auto data = app::load_image_dataset(command.data, app::Split::kTest);
  if (*command.index < 0 || *command.index >= data.size()) {
    fail<ArgumentError>("predict",
                        fmt::format("--index of {} must be 0 to {}", data.name, data.size() - 1),
                        std::to_string(*command.index));
  }
  return {data.images[*command.index], data.labels[*command.index].item<int64_t>()};
}

bool has_bright_border(const at::Tensor& pixels) {
  const auto rows = pixels.size(0), columns = pixels.size(1);
  const auto border =
      at::cat({pixels[0], pixels[rows - 1], pixels.select(1, 0), pixels.select(1, columns - 1)});
  return border.to(at::kFloat).mean().item<float>() > 127;
}

std::vector<double> probabilities(const app::ImageClassifier& classifier, const at::Tensor& pixels,
                                  const app::Resources& resources) {
  const at::NoGradGuard no_grad;
  const auto inputs = normalize_images(pixels, classifier.normalization, resources.dtype);
  auto model = classifier.model;
  const auto outputs = model->forward(inputs.to(resources.device));
  app::require_finite_outputs(outputs);
  const auto shares = at::softmax(outputs, 1).to(at::kCPU, at::kDouble).flatten().contiguous();
  return {shares.data_ptr<double>(), shares.data_ptr<double>() + shares.numel()};
}

size_t best(const std::vector<double>& shares) {
  return static_cast<size_t>(std::max_element(shares.begin(), shares.end()) - shares.begin());
}

void require_fit(const app::ImageClassifier& classifier, const at::Tensor& pixels) {
  const auto inputs = classifier.model->options().sizes.front();
  const auto height = classifier.image_height, width = classifier.image_width;
  const bool fits =
      height > 0 ? pixels.size(0) == height && pixels.size(1) == width : pixels.numel() == inputs;
  if (fits) return;
  fail<ArgumentError>("predict",
                      height > 0 ? fmt::format("the image must have {} x {} pixels, as those the "
                                               "model was trained on",
                                               height, width)
                                 : fmt::format("the image must have the model's {} pixels", inputs),
                      fmt::format("{} x {}", pixels.size(0), pixels.size(1)),
                      "Scale it first (for MNIST to 28 x 28, white on black).");
}

void print(const Picture& picture, const std::vector<double>& off,
           const std::optional<std::vector<double>>& on) {
  fmt::print("{}\n", app::render_image(picture.pixels));
  if (picture.label) fmt::print("Label: {}\n", *picture.label);
  app::Table table(on ? std::vector<std::string>{"class", "adapter off", "adapter on"}
                      : std::vector<std::string>{"class", "probability"});
  for (size_t i = 0; i < off.size(); ++i) {
    std::vector<std::string> row = {std::to_string(i), fmt::format("{:.4f}", off[i])};
    if (on) row.push_back(fmt::format("{:.4f}", (*on)[i]));
    table.add(row);
  }
  fmt::print("{}", table.text());
  if (on) {
    fmt::print("Prediction: {} with the adapter off, {} with it on.\n", best(off), best(*on));
  } else {
    fmt::print("Prediction: {}.\n", best(off));
  }
}

void run_predict(PredictCommand& command) {
  const auto resources = app::apply_common_options(command.common);
  auto classifier = app::load_base(command.base, resources);
  if (command.index) command.data = app::data_for(classifier, command.data);
  auto picture = picture_of(command);
  if (command.invert) picture.pixels = 255 - picture.pixels;
  require_fit(classifier, picture.pixels);
  const auto off = probabilities(classifier, picture.pixels, resources);
  std::optional<std::vector<double>> on;
  std::optional<LoadedAdapter> loaded;
  if (!command.adapter.empty()) {
    app::require_finished(command.adapter);
    loaded = load_adapter(*classifier.model, command.adapter);
    app::warn(loaded->report, command.adapter);
    on = probabilities(classifier, picture.pixels, resources);
  }
  if (picture.pixels.eq(picture.pixels[0][0]).all().item<bool>()) {
    app::print_message(
        "note: every pixel of the image is the same. (Transparent pixels count as white, so that a "
        "white drawing on them is lost.)");
  } else if (has_bright_border(picture.pixels)) {
    app::print_message(
        "note: the image is bright at its border, but the model knows white digits on black: if "
        "this one is dark on a bright ground, pass --invert.");
  }
  if (!command.common.json) {
    print(picture, off, on);
    return;
  }
  nlohmann::ordered_json json;
  if (picture.label) json["label"] = *picture.label;
  if (loaded) app::add_report(json, loaded->report);
  json["adapter_off"] = {{"prediction", best(off)}, {"probabilities", off}};
  if (on) json["adapter_on"] = {{"prediction", best(*on)}, {"probabilities", *on}};
  fmt::print("{}\n", to_text(json));
}

}  // namespace

void add_predict(const Flags& flags) {
  auto command = std::make_shared<PredictCommand>();
  const auto predict = flags.command("predict", "Classify an image with the adapter off and on");
  predict.option("base", &command->base, "Folder of the base model").type_name("BASE").required();
  predict.option("image", &command->image, "PNG or PGM image, white on black").type_name("IMAGE");
  predict.option("--adapter", &command->adapter, "Folder of an adapter").type_name("DIR");
  predict.option("--data", &command->data, "Data set that --index takes an image from")
      .default_text("the base's");
  predict.option("--index", &command->index, "Number of a test image, counted from 0");
  predict.flag("--invert", command->invert, "Invert the image, which is black on white");
  add_common_flags(predict, command->common, {.seed = false, .force = false});
  predict.footer(kPredictExamples);
  predict.action([command] { run_predict(*command); });
}

}  // namespace lowrank::cli
