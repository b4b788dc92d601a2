#include "app/pages/record_page.h"

#include <lowrank/io/atomic_file.h>

#include "app/pages/json_values.h"
#include "app/pages/layer_sections.h"
#include "app/pages/page.h"
#include "app/pages/run_sections.h"
#include "app/pages/svd_section.h"
#include "app/pages/weights_sections.h"

namespace lowrank::app {
namespace {

std::string title_of(const std::vector<FolderRecord>& folders) {
  std::string title = "lowrank report:";
  for (size_t i = 0; i < folders.size(); ++i) title += (i == 0 ? " " : ", ") + folders[i].name;
  return title;
}

/// The runs of all folders, by names that tell them apart.
std::vector<RunRecord> runs_of(const std::vector<FolderRecord>& folders) {
  std::vector<RunRecord> all;
  for (const auto& folder : folders) {
    for (auto run : folder.runs) {
      if (folders.size() > 1 && folder.name != run.name) run.name = folder.name + "/" + run.name;
      all.push_back(run);
    }
  }
  return all;
}

}  // namespace

std::string page_about(const std::vector<FolderRecord>& folders) {
  Page page(title_of(folders));
  const auto runs = runs_of(folders);
  add_findings(page, runs);
  add_summary(page, runs);
  for (const auto& folder : folders) add_checks(page, folder.notebook);
  add_curves(page, runs);
  add_mistakes(page, runs);
  add_parameters(page, runs);
  add_images(page, runs);
  add_confusion(page, runs);
  for (const auto& run : runs) add_layers(page, run.name, value_at(run.figures, {"layers"}));
  for (const auto& folder : folders) add_weights(page, folder.name, folder.weights);
  for (const auto& folder : folders) add_svd(page, folder.svd);
  add_options(page, runs);
  return page.text();
}

void write_page(const std::filesystem::path& folder) {
  write_file_atomically(folder / kPageFile, page_about({read_records(folder)}));
}

}  // namespace lowrank::app
