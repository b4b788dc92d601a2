# Sets LOWRANK_FMT, the fmt to build with. LibTorch 2.x brings headers of a newer fmt, which are
# found before the system's and do not match the system's library; with those, fmt is used
# header-only. That costs 3 to 9 s per file, so it is not done if those headers are the system's
# own.
find_package(fmt REQUIRED)
get_target_property(LOWRANK_FMT_INCLUDES fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
set(LOWRANK_FMT fmt::fmt)
foreach(folder IN LISTS TORCH_INCLUDE_DIRS)
  if(EXISTS ${folder}/fmt/format.h AND NOT folder IN_LIST LOWRANK_FMT_INCLUDES)
    set(LOWRANK_FMT fmt::fmt-header-only)
  endif()
endforeach()
