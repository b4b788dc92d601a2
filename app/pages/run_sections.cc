#include "app/pages/run_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "app/pages/json_values.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;
using Keys = std::initializer_list<const char*>;

/// A row of the summary: what it is called, and where it stands.
struct Entry {
  const char* name;
  std::vector<const char*> keys;  // below training.json
};

const Json& entry_in(const RunRecord& run, const Entry& entry) {
  const Json* value = &run.training;
  for (const char* key : entry.keys) value = &value_at(*value, {key});
  return *value;
}

/// A model's evaluation, and whose it is.
struct Evaluated {
  std::string name;
  const Json* figures;
};

/// The evaluations of all runs: a base's or an adapter's off, where it says something new, and the
/// adapter's on.
std::vector<Evaluated> evaluations(const std::vector<RunRecord>& runs) {
  std::vector<Evaluated> all;
  for (const auto& run : runs) {
    const auto& off = value_at(run.figures, {"evaluation", "off"});
    const auto& on = value_at(run.figures, {"evaluation", "on"});
    const bool is_new = std::none_of(all.begin(), all.end(),
                                     [&](const Evaluated& other) { return *other.figures == off; });
    const bool is_base = !on.is_object();
    if (off.is_object() && is_new) all.push_back({is_base ? run.name : run.name + ", off", &off});
    if (!is_base) all.push_back({run.name + ", on", &on});
  }
  return all;
}

/// The names of the classes, as far as the runs say.
std::vector<std::string> class_names(const std::vector<RunRecord>& runs) {
  for (const auto& run : runs) {
    const auto& names = value_at(run.figures, {"evaluation", "class_names"});
    if (!names.is_array()) continue;
    std::vector<std::string> texts;
    for (const auto& name : names) texts.push_back(text_in(name));
    return texts;
  }
  return {};
}

std::string class_name(const std::vector<std::string>& names, size_t number) {
  return number < names.size() ? names[number] : std::to_string(number);
}

using Matrix = std::vector<std::vector<double>>;

/// A square matrix; empty for anything else, and for one that a page has no room for.
Matrix matrix_in(const Json& json) {
  Matrix rows;
  if (!json.is_array() || json.size() > kMostCells) return rows;
  for (const auto& row : json) rows.push_back(numbers_in(row));
  for (const auto& row : rows) {
    if (row.size() != rows.size()) return {};
  }
  return rows;
}

Matrix difference(const Matrix& after, const Matrix& before) {
  auto result = after;
  for (size_t i = 0; i < result.size(); ++i) {
    for (size_t j = 0; j < result.size(); ++j) result[i][j] -= before[i][j];
  }
  return result;
}

Points points_in(const Json& points, size_t column) {
  Points result;
  if (!points.is_array()) return result;
  for (const auto& point : points) {
    const auto numbers = numbers_in(point);
    if (numbers.size() > column) result.emplace_back(numbers[0], numbers[column]);
  }
  return result;
}

/// The means of neighbouring points, so many of them that kMostPoints are left. What is not finite
/// stays so.
Points means(const Points& points) {
  const auto part = (points.size() + kMostPoints - 1) / kMostPoints;
  Points result;
  for (size_t begin = 0; begin < points.size(); begin += part) {
    const auto end = std::min(begin + part, points.size());
    double sum = 0;
    for (size_t i = begin; i < end; ++i) sum += points[i].second;
    result.emplace_back(points[end - 1].first, sum / static_cast<double>(end - begin));
  }
  return result;
}

Points validations_in(const Json& history) {
  Points result;
  const auto& validations = value_at(history, {"validations"});
  if (!validations.is_array()) return result;
  for (const auto& validation : validations) {
    result.emplace_back(number_in(value_at(validation, {"step"})),
                        number_in(value_at(validation, {"loss"})));
  }
  return result;
}

std::string fixed(double share) {
  return std::isfinite(share) ? fmt::format("{:.4f}", share) : std::string("–");
}

bool is_constant(const Points& points) {
  return std::all_of(points.begin(), points.end(),
                     [&](const auto& point) { return point.second == points.front().second; });
}

using Curves = std::vector<Curve>;

/// The curves in groups that one plot can show: a run of a hundred steps cannot be seen beside one
/// of six thousand.
std::vector<Curves> of_like_length(const Curves& curves) {
  constexpr double kTooLong = 4;
  std::vector<Curves> groups;
  for (const auto& curve : curves) {
    const auto length = curve.points.back().first;
    const auto fits = [&](const Curves& group) {
      const auto other = group.front().points.back().first;
      return length <= kTooLong * other && other <= kTooLong * length;
    };
    const auto group = std::find_if(groups.begin(), groups.end(), fits);
    if (group != groups.end()) {
      group->push_back(curve);
    } else {
      groups.push_back({curve});
    }
  }
  return groups;
}

/// Whether it is base64 of no more than an image of a page takes.
bool is_base64(const Json& json) {
  constexpr size_t kLongest = 1 << 20;
  if (!json.is_string()) return false;
  const auto& text = json.get_ref<const std::string&>();
  return !text.empty() && text.size() <= kLongest &&
         text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
             "=") == std::string::npos;
}

void add_images_of(Page& page, const std::string& title, const Json& examples) {
  const auto images = objects_in(value_at(examples, {"images"}), kMostImages).shown;
  if (images.empty()) return;
  page.smaller_heading(
      fmt::format("{} ({} in all)", title, count(number_in(value_at(examples, {"count"})))));
  std::vector<std::pair<std::string, std::string>> shown;
  for (const Json& image : images) {
    const auto& png = value_at(image, {"png"});
    if (!is_base64(png)) continue;
    shown.emplace_back(
        fmt::format("{}: a {}; {} off, {} on", count(number_in(value_at(image, {"index"}))),
                    text_in(value_at(image, {"label"})), text_in(value_at(image, {"before"})),
                    text_in(value_at(image, {"after"}))),
        png.get<std::string>());
  }
  page.images(shown);
}

void add_flat(Rows& rows, const std::string& name, const Json& json) {
  if (rows.size() == kMostRows) return;
  if (!json.is_object()) {
    rows.push_back({name, text_in(json)});
    return;
  }
  for (const auto& [key, value] : json.items()) {
    add_flat(rows, name.empty() ? key : fmt::format("{}.{}", name, key), value);
  }
}

}  // namespace

void add_findings(Page& page, const std::vector<RunRecord>& runs) {
  for (const auto& run : runs) {
    const auto base = number_in(value_at(run.figures, {"parameters"}));
    const auto adapter = number_in(value_at(run.figures, {"adapter_parameters"}));
    if (!(base > 0) || !(adapter > 0)) continue;
    auto text = fmt::format("{} adds {} parameters to the {} of its base, {:.3g} %.", run.name,
                            count(adapter), count(base), 100 * adapter / base);
    const auto& evaluation = value_at(run.figures, {"evaluation"});
    const auto off = number_in(value_at(evaluation, {"off", "accuracy"}));
    const auto on = number_in(value_at(evaluation, {"on", "accuracy"}));
    if (std::isfinite(off) && std::isfinite(on)) {
      text += fmt::format(" On {} examples its accuracy is {:.4f}; switched off, {:.4f}.",
                          count(number_in(value_at(evaluation, {"examples"}))), on, off);
    }
    page.paragraph(text);
  }
}

void add_summary(Page& page, const std::vector<RunRecord>& runs) {
  if (runs.empty()) return;
  const std::vector<Entry> entries = {
      {"base", {"run", "base"}},
      {"goes on from", {"run", "adapter"}},
      {"data", {"run", "data"}},
      {"trained on class", {"run", "only"}},
      {"share of replay", {"run", "train", "replay"}},
      {"steps", {"result", "steps"}},
      {"batch size", {"run", "train", "batch_size"}},
      {"learning rate", {"run", "train", "learning_rate"}},
      {"seed", {"run", "seed"}},
      {"mean loss", {"result", "mean_loss"}},
      {"best validation loss", {"result", "best_validation_loss"}},
  };
  std::vector<std::string> header = {"run"};
  for (const auto& run : runs) header.push_back(run.name);
  Rows rows;
  const auto add = [&](const std::string& name, const auto& value_of) {
    std::vector<std::string> row = {name};
    bool is_any = false;
    for (const auto& run : runs) {
      const Json& value = value_of(run);
      const bool is_whole = value.is_number_integer();
      row.push_back(value.is_null()     ? "–"
                    : is_whole          ? count(number_in(value))
                    : value.is_number() ? figure(number_in(value))
                                        : text_in(value));
      is_any = is_any || !value.is_null();
    }
    if (is_any) rows.push_back(row);
  };
  for (const auto& entry : entries) {
    add(entry.name, [&](const RunRecord& run) -> const Json& { return entry_in(run, entry); });
  }
  for (const auto& [name, key] : {std::pair("rank", "r"), std::pair("alpha", "lora_alpha")}) {
    add(name, [key = key](const RunRecord& run) -> const Json& {
      const auto& own = value_at(run.config, {key});  // after resize, not that of the training
      return own.is_null() ? value_at(run.training, {"run", "lora", key}) : own;
    });
  }
  add("parameters of the base",
      [](const RunRecord& run) -> const Json& { return value_at(run.figures, {"parameters"}); });
  add("parameters of the adapter", [](const RunRecord& run) -> const Json& {
    return value_at(run.figures, {"adapter_parameters"});
  });
  page.heading("What was run");
  page.table(header, rows);
}

void add_checks(Page& page, const Json& notebook) {
  const auto& checks = value_at(notebook, {"checks"});
  if (!checks.is_array() || checks.empty()) return;
  page.heading("Checks");
  Rows rows;
  for (const auto& check : checks) {
    rows.push_back({value_at(check, {"ok"}) == true ? "ok" : "FAIL",
                    text_in(value_at(check, {"meaning"})), text_in(value_at(check, {"detail"}))});
  }
  page.texts({"", "what is claimed", "what was found"}, rows);
}

void add_curves(Page& page, const std::vector<RunRecord>& runs) {
  Curves losses, rates;
  for (const auto& run : runs) {
    const auto& points = value_at(run.history, {"points"});
    const auto loss = means(points_in(points, 1)), rate = points_in(points, 2);
    if (!loss.empty()) losses.push_back({run.name, loss});
    const auto validation = validations_in(run.history);
    if (!validation.empty()) losses.push_back({run.name + ", validation", validation, true});
    if (!rate.empty() && !is_constant(rate)) rates.push_back({run.name, rate});
  }
  if (losses.empty()) return;
  page.heading("Losses");
  page.paragraph(
      "Each point is the mean of the losses since the point before: a run has at most 64 points.");
  for (const auto& curves : of_like_length(losses)) {
    page.plot("Loss by step", {.x = "step", .y = "loss", .curves = curves});
  }
  for (const auto& curves : of_like_length(rates)) {
    page.plot("Learning rate by step", {.x = "step", .y = "learning rate", .curves = curves});
  }
}

void add_mistakes(Page& page, const std::vector<RunRecord>& runs) {
  const auto all = evaluations(runs);
  if (all.empty()) return;
  page.heading("Evaluation");
  std::vector<std::string> header = {"class"};
  std::vector<std::vector<double>> wrong;
  size_t classes = 0;
  double most = 0;
  Rows rows;
  const bool has_classes = std::any_of(all.begin(), all.end(), [](const Evaluated& one) {
    return value_at(*one.figures, {"accuracy"}).is_number();
  });
  for (const auto& [name, figures] : all) {
    const auto accuracy = number_in(value_at(*figures, {"accuracy"}));
    const auto error = number_in(value_at(*figures, {"mean_squared_error"}));
    rows.push_back({name, has_classes ? fixed(accuracy) : figure(error),
                    count(number_in(value_at(*figures, {"total"})))});
    const auto of_classes = numbers_in(value_at(*figures, {"wrong_by_class"}));
    if (of_classes.empty()) continue;
    header.push_back(name);
    wrong.push_back(of_classes);
    classes = std::max(classes, of_classes.size());
    for (const auto number : of_classes) most = std::max(most, number);
  }
  page.table({"model", has_classes ? "accuracy" : "mean squared error", "examples"}, rows);
  if (wrong.empty()) return;
  page.smaller_heading("Mistakes by class");
  const auto names = class_names(runs);
  std::vector<BarRow> bars;
  for (size_t i = 0; i < std::min(classes, kMostCells); ++i) {
    BarRow row{class_name(names, i), {}};
    for (const auto& numbers : wrong) {
      const auto value = i < numbers.size() ? numbers[i] : std::nan("");
      row.second.emplace_back(most > 0 ? value / most : 0, count(value));
    }
    bars.push_back(row);
  }
  page.bars(header, bars);
  if (classes > kMostCells) {
    page.paragraph(fmt::format("{} more classes are not shown.", classes - kMostCells));
  }
}

void add_confusion(Page& page, const std::vector<RunRecord>& runs) {
  const auto names = class_names(runs);
  std::vector<std::pair<std::string, HeatMap>> maps;
  for (const auto& [name, figures] : evaluations(runs)) {
    const auto matrix = matrix_in(value_at(*figures, {"confusion"}));
    if (!matrix.empty()) maps.emplace_back(name, HeatMap{names, matrix});
  }
  for (const auto& run : runs) {
    const auto off = matrix_in(value_at(run.figures, {"evaluation", "off", "confusion"}));
    const auto on = matrix_in(value_at(run.figures, {"evaluation", "on", "confusion"}));
    if (on.empty() || off.size() != on.size()) continue;
    maps.emplace_back(run.name + ", on minus off",
                      HeatMap{names, difference(on, off), HeatMap::Kind::kDifference});
  }
  if (maps.empty()) return;
  page.heading("Confusion matrices");
  page.paragraph("Rows are the true classes, columns what the model answers.");
  page.heat_maps(maps);
}

void add_images(Page& page, const std::vector<RunRecord>& runs) {
  for (const auto& run : runs) {
    add_images_of(page, "Mended by " + run.name, value_at(run.figures, {"evaluation", "mended"}));
    add_images_of(page, "Broken by " + run.name, value_at(run.figures, {"evaluation", "broken"}));
  }
}

void add_parameters(Page& page, const std::vector<RunRecord>& runs) {
  std::vector<std::pair<std::string, double>> areas;
  for (const auto& run : runs) {
    const auto base = number_in(value_at(run.figures, {"parameters"}));
    const auto adapter = number_in(value_at(run.figures, {"adapter_parameters"}));
    if (!(base > 0) || !(adapter > 0)) continue;
    if (areas.empty()) areas.emplace_back(fmt::format("base: {}", count(base)), base);
    areas.emplace_back(fmt::format("{}: {} ({:.3g} % of the base)", run.name, count(adapter),
                                   100 * adapter / base),
                       adapter);
  }
  if (areas.empty()) return;
  page.heading("Parameters, to scale");
  page.areas(areas);
}

void add_options(Page& page, const std::vector<RunRecord>& runs) {
  bool is_begun = false;
  for (const auto& run : runs) {
    const auto& options = value_at(run.training, {"run"});
    if (!options.is_object()) continue;
    if (!is_begun) page.heading("Options");
    is_begun = true;
    Rows rows;
    add_flat(rows, "", options);
    page.folded_table("All options of " + run.name, {"option", "value"}, rows);
  }
}

}  // namespace lowrank::app
