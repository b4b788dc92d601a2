#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "app/data/labels.h"
#include "app/images/image_file.h"
#include "app/images/resize.h"
#include "app/reports/evaluation_report.h"
#include "app/runs/base.h"
#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/terminal/table.h"
#include "app/terminal/terminal_image.h"
#include "cli/commands/commands.h"
#include "cli/flags/common_flags.h"
#include "cli/flags/data_flags.h"

namespace lowrank::cli {
namespace {

struct PredictCommand {
  app::CommonOptions common;
  std::string base;
  std::string image;
  std::string adapter;
  app::DataOptions data;
  std::optional<int64_t> index;
  bool invert = false;
};

constexpr auto kPredictExamples = R"(Examples:
  lowrank predict base/ --adapter two/ digit.png
  lowrank predict base/ --adapter two/ --data mnist --index 17)";

/// Returns the image as a data set of one example.
app::Dataset from_file(const PredictCommand& command, const app::DataSource& source,
                       const app::Base& base) {
  const auto channels = source.channels == 3   ? app::ImageChannels::kRgb
                        : source.channels == 1 ? app::ImageChannels::kGray
                        : base.is_prepared     ? app::ImageChannels::kGray
                                               : app::ImageChannels::kAny;
  auto image = app::read_image(command.image, channels);
  if (source.resize.size() == 2) {
    image = app::resize_image(image, source.resize[0], source.resize[1]);
  }
  app::Dataset one;
  one.name = command.image;
  one.inputs = image.unsqueeze(0);
  set_no_labels(one, source);
  return one;
}

/// Returns the example to predict as a data set of its own, without a label where none is known.
app::Dataset example_of(const PredictCommand& command, app::DataSource source,
                        const app::Base& base) {
  if (!command.index) return from_file(command, source, base);
  source.may_lack_labels = true;
  const auto data = app::load_dataset(source, app::Split::kTest);
  if (*command.index < 0 || *command.index >= data.size()) {
    fail<ArgumentError>("predict",
                        fmt::format("--index of {} must be 0 to {}", data.name, data.size() - 1),
                        std::to_string(*command.index));
  }
  return select(data, at::full({1}, *command.index, at::kLong));
}

bool has_bright_border(const at::Tensor& pixels) {
  const auto rows = pixels.size(0), columns = pixels.size(1);
  const auto border =
      at::cat({pixels[0], pixels[rows - 1], pixels.select(1, 0), pixels.select(1, columns - 1)});
  return border.to(at::kFloat).mean().item<float>() > 127;
}

/// Returns the probability of each class, or the numbers that the model predicts.
std::vector<double> answer(const app::Base& base, const app::Dataset& one,
                           const app::Resources& resources) {
  const auto outputs = app::outputs_of(base, one, resources);
  const auto shown =
      (one.classes > 0 ? at::softmax(outputs, 1) : outputs).to(at::kDouble).flatten().contiguous();
  return {shown.data_ptr<double>(), shown.data_ptr<double>() + shown.numel()};
}

size_t best(const std::vector<double>& shares) {
  return static_cast<size_t>(std::max_element(shares.begin(), shares.end()) - shares.begin());
}

void print_classes(const app::Dataset& one, const std::vector<double>& off,
                   const std::optional<std::vector<double>>& on) {
  const auto name = [&](size_t i) { return class_name(one, static_cast<int64_t>(i)); };
  app::Table table(on ? std::vector<std::string>{"class", "adapter off", "adapter on"}
                      : std::vector<std::string>{"class", "probability"});
  for (size_t i = 0; i < off.size(); ++i) {
    std::vector<std::string> row = {name(i), fmt::format("{:.4f}", off[i])};
    if (on) row.push_back(fmt::format("{:.4f}", (*on)[i]));
    table.add(row);
  }
  fmt::print("{}", table.text());
  if (on) {
    app::print_text(fmt::format("Prediction: {} with the adapter off, {} with it on.",
                                printable(name(best(off))), printable(name(best(*on)))));
  } else {
    app::print_text(fmt::format("Prediction: {}.", printable(name(best(off)))));
  }
}

void print(const app::Dataset& one, const std::vector<double>& off,
           const std::optional<std::vector<double>>& on) {
  if (one.holds_images() && one.channels() == 1) {
    fmt::print("{}\n", app::render_image(one.inputs.reshape({one.height(), one.width()})));
  }
  if (one.classes > 0) {
    if (one.has_labels) {
      const auto label = one.labels[0].item<int64_t>();
      app::print_text(fmt::format("Label: {}", printable(class_name(one, label))));
    }
    return print_classes(one, off, on);
  }
  if (one.has_labels) {
    const auto label = one.labels.to(at::kDouble).flatten().contiguous();
    fmt::print("Label: {:.6g}\n",
               fmt::join(label.data_ptr<double>(), label.data_ptr<double>() + label.numel(), ", "));
  }
  fmt::print("Prediction{}: {:.6g}\n", on ? " with the adapter off" : "", fmt::join(off, ", "));
  if (on) fmt::print("Prediction with the adapter on: {:.6g}\n", fmt::join(*on, ", "));
}

nlohmann::ordered_json answer_json(const app::Dataset& one, const std::vector<double>& numbers) {
  if (one.classes == 0) return {{"prediction", numbers}};
  nlohmann::ordered_json json = {{"prediction", best(numbers)}};
  if (!one.class_names.empty()) {
    json["class_name"] = class_name(one, static_cast<int64_t>(best(numbers)));
  }
  json["probabilities"] = numbers;
  return json;
}

void print_json(const app::Dataset& one, const std::vector<double>& off,
                const std::optional<std::vector<double>>& on,
                const std::optional<LoadedAdapter>& loaded) {
  nlohmann::ordered_json json;
  if (one.has_labels && one.classes > 0) {
    json["label"] = one.labels[0].item<int64_t>();
  }
  if (loaded) app::add_report(json, loaded->report);
  json["adapter_off"] = answer_json(one, off);
  if (on) json["adapter_on"] = answer_json(one, *on);
  fmt::print("{}\n", to_text(json));
}

/// Notes what is probably wrong with a gray image.
void note_on(const app::Dataset& one, bool inverted) {
  if (!one.holds_images() || one.channels() != 1) return;
  const auto pixels = one.inputs.reshape({one.height(), one.width()});
  if (pixels.eq(pixels[0][0]).all().item<bool>()) {
    app::print_message(
        "note: every pixel of the image is the same. (Transparent pixels count as white, so that a "
        "white drawing on them is lost.)");
  } else if (has_bright_border(pixels)) {
    app::print_message(
        inverted ? "note: the inverted image is bright at its border, but the model knows white "
                   "digits on black: was it that before? Then leave --invert out."
                 : "note: the image is bright at its border, but the model knows white digits on "
                   "black: if this one is dark on a bright ground, pass --invert.");
  }
}

void run_predict(PredictCommand& command) {
  if (command.image.empty() == !command.index) {
    fail<ArgumentError>("predict", "one image must be given, as a file or as --index",
                        command.index ? "both" : "neither");
  }
  const auto resources = app::apply_common_options(command.common);
  auto base = app::load_base(command.base, resources);
  if (!command.adapter.empty()) {
    app::require_finished(command.adapter);
    take_preparation(base, command.adapter);
  }
  const auto source =
      command.index ? complete(command.data, base) : as_recorded(command.data, base);
  auto one = example_of(command, source, base);
  if (command.invert && one.holds_images()) one.inputs = 255 - one.inputs;
  fit(base, one);
  const auto off = answer(base, one, resources);
  std::optional<std::vector<double>> on;
  std::optional<LoadedAdapter> loaded;
  if (!command.adapter.empty()) {
    loaded = base.model.load_adapter(command.adapter);
    app::warn(loaded->report, command.adapter);
    on = answer(base, one, resources);
  }
  // Photographs have bright borders, too.
  if (!base.model.is_script()) note_on(one, command.invert);
  note_normalization(base, one, command.data);
  if (command.common.json) {
    print_json(one, off, on, loaded);
  } else {
    print(one, off, on);
  }
}

}  // namespace

void add_predict(const Flags& flags) {
  auto command = std::make_shared<PredictCommand>();
  const auto predict = flags.command("predict", "Classify one example with the adapter off and on");
  predict.option("base", &command->base, "Folder of the base, or a TorchScript file")
      .type_name("BASE")
      .required();
  predict
      .option("image", &command->image, "PNG, JPEG or PGM image; MNIST's digits are white on black")
      .type_name("IMAGE");
  predict.option("--adapter", &command->adapter, "Folder of an adapter").type_name("DIR");
  predict.option("--index", &command->index, "Number of a test example of --data, from 0");
  predict.flag("--invert", command->invert,
               "Invert the image first, as one that is dark on white needs");
  add_data_flags(predict, command->data, "the base's");
  add_common_flags(predict, command->common, {.seed = false, .force = false});
  predict.footer(kPredictExamples);
  predict.action([command] { run_predict(*command); });
}

}  // namespace lowrank::cli
