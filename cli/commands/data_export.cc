#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "app/images/image_file.h"
#include "app/runs/base.h"
#include "app/runs/input_protection.h"
#include "app/runs/resources.h"
#include "cli/commands/commands.h"
#include "cli/flags/data_flags.h"

namespace lowrank::cli {
namespace {

struct DataExportCommand {
  app::DataOptions data;
  std::string out;
  int64_t index = 0;
  bool train_split = false;
  bool json = false;
  bool force = false;
};

void run_export(const DataExportCommand& command) {
  app::apply_common_options({});
  const auto& source = command.data.source;
  const auto data =
      app::load_dataset(source, command.train_split ? app::Split::kTrain : app::Split::kTest);
  if (!data.holds_images()) {
    fail<ArgumentError>("data", fmt::format("{} must hold images", data.name), data.shape_text());
  }
  if (command.index < 0 || command.index >= data.size()) {
    fail<ArgumentError>("data",
                        fmt::format("--index of {} must be 0 to {}", data.name, data.size() - 1),
                        std::to_string(command.index));
  }
  if (const auto extension = std::filesystem::path(command.out).extension();
      !extension.empty() && extension != ".png") {
    fail<ArgumentError>("data", "--out must name a .png file", fmt::format("\"{}\"", command.out));
  }
  app::require_not_an_input(command.out, app::files_of(source));
  require_writable_output(command.out, command.force);
  write_file_atomically(command.out, app::png_bytes(data.inputs[command.index]));
  nlohmann::ordered_json json = {{"out", command.out}, {"index", command.index}};
  std::string name;
  if (data.classes > 0) {
    const auto label = data.labels[command.index].item<int64_t>();
    json["label"] = label;
    name = fmt::format(", a {}", printable(class_name(data, label)));
  }
  if (command.json) {
    fmt::print("{}\n", to_text(json));
  } else {
    fmt::print("Wrote {}{}.\n", printable(command.out), name);
  }
}

}  // namespace

void add_data_export(const Flags& data) {
  auto command = std::make_shared<DataExportCommand>();
  const auto exported = data.command("export", "Write one image of a data set as a PNG file");
  add_source(exported, command->data);
  exported.option("--index", &command->index, "Number of the image, counted from 0");
  exported.flag("--train-split", command->train_split, "Take a training image, not a test image");
  exported.option("--out", &command->out, "PNG file to write").type_name("FILE").required();
  exported.flag("--json", command->json, "Print one JSON object instead of text");
  exported.flag("--force", command->force, "Replace an existing file");
  exported.footer(
      "Examples:\n"
      "  lowrank data export mnist --index 7 --out digit.png");
  exported.action([command] { run_export(*command); });
}

}  // namespace lowrank::cli
