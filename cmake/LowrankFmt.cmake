# Which fmt to build with: LOWRANK_FMT. LibTorch 2.x brings headers of a newer fmt, which are found
# before the system's and do not match its library; with those, fmt is used without a library.
# That costs 3 to 9 s a file, so the system's own headers are not taken for LibTorch's.
find_package(fmt REQUIRED)
get_target_property(LOWRANK_FMT_INCLUDES fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
set(LOWRANK_FMT fmt::fmt)
foreach(folder IN LISTS TORCH_INCLUDE_DIRS)
  if(EXISTS ${folder}/fmt/format.h AND NOT folder IN_LIST LOWRANK_FMT_INCLUDES)
    set(LOWRANK_FMT fmt::fmt-header-only)
  endif()
endforeach()
