#include "app/pages/plot.h"

#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/file_bytes.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <system_error>

#include "app/images/subprocess.h"
#include "app/images/work_folder.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostBytes = uint64_t{16} << 20;

/// Whether gnuplot can place a point: it refuses axes that end near the limits of a double.
bool can_be_drawn(const Plot& plot, const std::pair<double, double>& point) {
  constexpr double kMost = 1e300, kLeast = 1e-300;
  const auto& [x, y] = point;
  if (!(std::abs(x) < kMost && std::abs(y) < kMost)) return false;  // nor what is NaN
  return !plot.is_logarithmic || y > kLeast;
}

bool is_empty(const Plot& plot) {
  for (const auto& curve : plot.curves) {
    for (const auto& point : curve.points) {
      if (can_be_drawn(plot, point)) return false;
    }
  }
  return true;
}

/// The colour of a curve in the script, which is replaced by a CSS variable afterwards.
std::string placeholder(int style) { return fmt::format("#0000{:02x}", style + 1); }

constexpr const char* kPreamble = R"(set terminal svg size 640,320 dynamic noenhanced linewidth 1.4
set border 3 linecolor rgb "#000011"
set tics nomirror
set grid linetype 1 linecolor rgb "#000010" linewidth 0.5
unset key
set style data lines
set format y "%g"
)";

void add_plot(std::string& script, const Plot& plot, size_t number) {
  script += fmt::format("set output \"{}.svg\"\nset xlabel \"{}\"\nset ylabel \"{}\"\n", number,
                        plot.x.text(), plot.y.text());
  script += plot.is_scattered ? "set yrange [0:*]\n" : "set autoscale y\n";
  script += plot.is_logarithmic ? "set logscale y\n" : "unset logscale y\n";
  std::string data;
  const char* separator = "plot ";
  for (size_t i = 0; i < plot.curves.size(); ++i) {
    std::string points;
    for (const auto& point : plot.curves[i].points) {
      if (!can_be_drawn(plot, point)) continue;
      points += fmt::format("{:.9g} {:.9g}\n", point.first, point.second);
    }
    if (points.empty()) continue;
    const auto style = static_cast<int>(i % kCurveStyles);
    const bool has_marks = plot.is_scattered || plot.curves[i].has_marks;
    script += fmt::format("{}'-' with {} linecolor rgb \"{}\" dashtype {}", separator,
                          plot.is_scattered ? "points pointtype 7 pointsize 0.6"
                          : has_marks       ? "linespoints pointtype 7 pointsize 0.6"
                                            : "lines",
                          placeholder(style), has_marks ? 1 : style + 1);
    separator = ", ";
    data += points + "e\n";
  }
  script += "\n" + data + "unset output\n";
}

void replace_all(std::string& text, const std::string& old, const std::string& replacement) {
  for (size_t at = text.find(old); at != std::string::npos;
       at = text.find(old, at + replacement.size())) {
    text.replace(at, old.size(), replacement);
  }
}

/// The <svg> element of what gnuplot wrote, with ids of its own and colours that follow the page.
std::string as_element(std::string svg, size_t number) {
  svg.erase(0, std::min(svg.find("<svg"), svg.size()));
  const auto prefix = fmt::format("plot{}-", number);
  for (const char* quote : {"'", "\""}) {
    replace_all(svg, fmt::format(" id={}", quote), fmt::format(" id={}{}", quote, prefix));
    replace_all(svg, fmt::format("href={}#", quote), fmt::format("href={}#{}", quote, prefix));
  }
  replace_all(svg, "url(#", "url(#" + prefix);
  for (int i = 0; i < kCurveStyles; ++i) {
    replace_all(svg, fmt::format("rgb(  0,   0, {:3})", i + 1), fmt::format("var(--curve-{})", i));
  }
  replace_all(svg, "rgb(  0,   0,  16)", "var(--faint)");
  replace_all(svg, "rgb(  0,   0,  17)", "var(--soft)");
  replace_all(svg, "\"black\"", "\"var(--ink)\"");
  return svg;
}

constexpr const char* kGnuplot = "gnuplot";

[[noreturn]] void fail_drawing(const std::string& problem, const char* hint) {
  fail<Error>("report", "gnuplot must draw the plots", problem, hint);
}

}  // namespace

void require_gnuplot() {
  const char* const set = std::getenv("PATH");
  std::string path = set == nullptr ? "/usr/bin:/bin" : set;
  for (size_t begin = 0; begin <= path.size();) {
    const auto end = std::min(path.find(':', begin), path.size());
    if (::access((fs::path(path.substr(begin, end - begin)) / kGnuplot).c_str(), X_OK) == 0) {
      const WorkFolder can_be_made("report");
      return;
    }
    begin = end + 1;
  }
  fail_drawing("no such program", "Install it (apt-get install gnuplot-nox).");
}

std::vector<std::string> draw(const std::vector<Plot>& plots) {
  std::vector<std::string> elements(plots.size());
  std::string script = kPreamble;
  bool is_any = false;
  for (size_t i = 0; i < plots.size(); ++i) {
    if (is_empty(plots[i])) continue;
    add_plot(script, plots[i], i);
    is_any = true;
  }
  if (!is_any) return elements;
  require_gnuplot();
  const WorkFolder folder("report");
  write_file_atomically(folder.path() / "plots.gp", script);
  constexpr std::chrono::minutes kLimit{2};
  const auto done = run_process({kGnuplot, "-d", "plots.gp"}, folder.path(), kLimit);
  if (!done.ok) fail_drawing(done.problem, "");
  for (size_t i = 0; i < plots.size(); ++i) {
    if (is_empty(plots[i])) continue;
    const auto file = folder.path() / fmt::format("{}.svg", i);
    std::error_code none;
    if (!fs::exists(file, none)) fail_drawing("no drawing", "");
    elements[i] = as_element(read_file(file, kMostBytes), i);
    if (elements[i].empty()) fail_drawing("no drawing", "");
  }
  return elements;
}

Points thinned(const Points& points, size_t most, bool by_rank) {
  if (points.size() <= most) return points;
  Points kept;
  size_t next = 0;
  for (size_t i = 0; i < most; ++i) {
    const auto share = static_cast<double>(i) / static_cast<double>(most - 1);
    const auto last = static_cast<double>(points.size() - 1);
    const auto place =
        static_cast<size_t>(std::llround(by_rank ? std::pow(last + 1, share) - 1 : share * last));
    next = std::min(std::max(next, place), points.size() - 1);
    kept.push_back(points[next++]);
    if (next == points.size()) break;
  }
  return kept;
}

}  // namespace lowrank::app
