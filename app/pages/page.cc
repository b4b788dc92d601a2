#include "app/pages/page.h"

#include <fmt/format.h>
#include <lowrank/version.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "app/pages/json_values.h"
#include "app/pages/markup.h"
#include "app/pages/style.h"
#include "app/terminal/table.h"

namespace lowrank::app {
namespace {

std::string row_of(const std::vector<std::string>& cells, const char* tag) {
  std::string row = "<tr>";
  for (const auto& cell : cells) row += fmt::format("<{0}>{1}</{0}>", tag, escaped(cell));
  return row + "</tr>\n";
}

std::string table_of(const std::vector<std::string>& header, const Rows& rows, size_t more = 0,
                     const char* kind = "") {
  auto text = fmt::format("<div class=\"wide\"><table class=\"{}\"><thead>", kind);
  text += row_of(header, "th") + "</thead><tbody>";
  for (const auto& row : rows) text += row_of(row, "td");
  text += "</tbody></table></div>\n";
  if (more > 0) {
    const auto count = with_thousands(static_cast<int64_t>(more));
    text += fmt::format("<p>{} more are not shown.</p>\n", count);
  }
  return text;
}

std::string fold_of(std::string_view summary, const std::string& content) {
  return fmt::format("<details><summary>{}</summary>\n{}</details>\n", escaped(summary), content);
}

/// The numbers that a plot shows: a row for each x, a column for each curve.
std::string numbers_of(const Plot& plot) {
  std::vector<std::string> header = {plot.x.text()};
  std::map<double, std::vector<std::string>> by_x;
  for (size_t i = 0; i < plot.curves.size(); ++i) {
    header.push_back(plot.curves[i].name);
    for (const auto& [x, y] : plot.curves[i].points) {
      if (std::isnan(x)) continue;
      auto& cells = by_x[x];
      cells.resize(plot.curves.size());
      cells[i] = figure(y);
    }
  }
  Rows rows;
  for (const auto& [x, cells] : by_x) {
    rows.push_back({fmt::format("{:.6g}", x)});
    rows.back().insert(rows.back().end(), cells.begin(), cells.end());
  }
  return fold_of("The numbers", table_of(header, rows));
}

std::string legend_of(const Plot& plot) {
  if (plot.curves.size() < 2) return {};
  std::string text = "<p class=\"legend\">";
  for (size_t i = 0; i < plot.curves.size(); ++i) {
    text += fmt::format("<span><i class=\"curve c{}{}\"></i>{}</span> ", i % kCurveStyles,
                        plot.curves[i].has_marks ? " dotted" : "", escaped(plot.curves[i].name));
  }
  return text + "</p>\n";
}

std::string shade_of(double value, double largest) {
  if (!std::isfinite(value) || value == 0 || largest == 0) return {};
  return fmt::format(" style=\"--shade:{:.0f}%\" class=\"{}\"",
                     std::clamp(100 * std::abs(value) / largest, 4.0, 100.0),
                     value < 0 ? "less" : "more");
}

double largest_shaded(const HeatMap& map) {
  double largest = 0;
  for (size_t i = 0; i < map.cells.size(); ++i) {
    for (size_t j = 0; j < map.cells[i].size(); ++j) {
      const bool is_shaded = i != j || map.kind != HeatMap::Kind::kConfusion;
      const auto size = std::abs(map.cells[i][j]);
      if (is_shaded && std::isfinite(size)) largest = std::max(largest, size);
    }
  }
  return largest;
}

std::string cell_of(const HeatMap& map, size_t i, size_t j, double largest) {
  const auto value = map.cells[i][j];
  const bool is_shaded = i != j || map.kind != HeatMap::Kind::kConfusion;
  const auto shade = is_shaded ? shade_of(value, largest) : std::string();
  if (map.kind == HeatMap::Kind::kShades) {
    return fmt::format("<td{} title=\"{}\"></td>", shade, figure(value));
  }
  const bool has_sign = map.kind == HeatMap::Kind::kDifference;
  const auto number = value == 0 ? std::string("·")
                      : has_sign ? fmt::format("{:+g}", value)
                                 : fmt::format("{:g}", value);
  return fmt::format("<td{}>{}</td>", shade, number);
}

std::string heat_map_of(const std::string& caption, const HeatMap& map) {
  const bool has_names = map.kind != HeatMap::Kind::kShades;
  const auto name = [&](size_t i) {
    return "<th>" + (i < map.names.size() ? escaped(map.names[i]) : std::to_string(i)) + "</th>";
  };
  auto text = fmt::format("<figure><figcaption>{}</figcaption><table class=\"heat{}\"><tbody>",
                          escaped(caption), has_names ? "" : " shades");
  if (has_names) {
    text += "<tr><th></th>";
    for (size_t j = 0; j < map.cells.size(); ++j) text += name(j);
    text += "</tr>\n";
  }
  const auto largest = largest_shaded(map);
  for (size_t i = 0; i < map.cells.size(); ++i) {
    text += "<tr>" + (has_names ? name(i) : std::string());
    for (size_t j = 0; j < map.cells[i].size(); ++j) text += cell_of(map, i, j, largest);
    text += "</tr>\n";
  }
  return text + "</tbody></table></figure>\n";
}

}  // namespace

void Page::heading(std::string_view text) { parts_.push_back("<h2>" + escaped(text) + "</h2>\n"); }

void Page::smaller_heading(std::string_view text) {
  parts_.push_back("<h3>" + escaped(text) + "</h3>\n");
}

void Page::paragraph(std::string_view text) { parts_.push_back("<p>" + escaped(text) + "</p>\n"); }

void Page::table(const std::vector<std::string>& header, const Rows& rows, size_t more) {
  parts_.push_back(table_of(header, rows, more));
}

void Page::texts(const std::vector<std::string>& header, const Rows& rows) {
  parts_.push_back(table_of(header, rows, 0, "texts"));
}

void Page::folded_table(std::string_view summary, const std::vector<std::string>& header,
                        const Rows& rows, size_t more) {
  parts_.push_back(fold_of(summary, table_of(header, rows, more)));
}

void Page::plot(std::string_view caption, const Plot& plot) {
  auto shown = plot;
  for (auto& curve : shown.curves) curve.points = thinned(curve.points, kMostPoints);
  parts_.push_back(
      fmt::format("<figure><figcaption>{}</figcaption>{}", escaped(caption), legend_of(plot)));
  parts_.emplace_back();
  parts_.push_back(numbers_of(shown) + "</figure>\n");
  plots_.push_back(std::move(shown));
}

void Page::heat_maps(const std::vector<std::pair<std::string, HeatMap>>& maps) {
  std::string text = "<div class=\"beside\">";
  for (const auto& [caption, map] : maps) text += heat_map_of(caption, map);
  parts_.push_back(text + "</div>\n");
}

void Page::images(const std::vector<std::pair<std::string, std::string>>& pngs) {
  std::string text = "<div class=\"beside\">";
  for (const auto& [caption, png] : pngs) {
    text += fmt::format(
        "<figure class=\"image\"><img src=\"data:image/png;base64,{0}\" alt=\"{1}\">"
        "<figcaption>{1}</figcaption></figure>\n",
        escaped(png), escaped(caption));
  }
  parts_.push_back(text + "</div>\n");
}

void Page::bars(const std::vector<std::string>& header, const std::vector<BarRow>& rows) {
  std::string text = "<div class=\"wide\"><table class=\"bars\"><thead>" + row_of(header, "th") +
                     "</thead><tbody>";
  for (const auto& [name, cells] : rows) {
    text += "<tr><td>" + escaped(name) + "</td>";
    for (size_t i = 0; i < cells.size(); ++i) {
      const auto length = std::isfinite(cells[i].first) ? std::clamp(cells[i].first, 0.0, 1.0) : 0;
      text += fmt::format("<td><i class=\"bar c{}\" style=\"--length:{:.1f}%\"></i>{}</td>",
                          i % kCurveStyles, 100 * length, escaped(cells[i].second));
    }
    text += "</tr>\n";
  }
  parts_.push_back(text + "</tbody></table></div>\n");
}

void Page::areas(const std::vector<std::pair<std::string, double>>& amounts) {
  double largest = 0;
  for (const auto& [name, amount] : amounts) largest = std::max(largest, amount);
  if (!(largest > 0) || !std::isfinite(largest)) return;
  std::string text = "<div class=\"beside areas\">";
  for (size_t i = 0; i < amounts.size(); ++i) {
    const auto& [name, amount] = amounts[i];
    const auto side = amount > 0 ? 100 * std::sqrt(amount / largest) : 0.0;
    text += fmt::format(
        "<figure><svg viewBox=\"0 0 100 100\" role=\"img\" aria-label=\"{0}\">"
        "<rect y=\"{1:.3f}\" width=\"{2:.3f}\" height=\"{2:.3f}\" fill=\"var(--curve-{3})\"/></svg>"
        "<figcaption>{0}</figcaption></figure>\n",
        escaped(name), 100 - side, side, i % kCurveStyles);
  }
  parts_.push_back(text + "</div>\n");
}

void Page::begin_fold(std::string_view summary) {
  parts_.push_back("<details><summary>" + escaped(summary) + "</summary>\n");
}

void Page::end_fold() { parts_.emplace_back("</details>\n"); }

std::string Page::text() const {
  const auto drawn = draw(plots_);
  std::string body;
  size_t next = 0;
  for (const auto& part : parts_) {
    if (!part.empty()) {
      body += part;
      continue;
    }
    const auto& svg = drawn[next++];
    body += svg.empty() ? "<p>Nothing to draw.</p>\n" : svg + "\n";
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; "
      "style-src 'unsafe-inline'\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>{0}</title>\n<style>{1}</style></head>\n"
      "<body><main>\n<h1>{0}</h1>\n{2}"
      "<footer>lowrank {3}, LibTorch {4}</footer>\n</main></body></html>\n",
      escaped(title_), kPageStyle, body, version(), libtorch_version());
}

}  // namespace lowrank::app
