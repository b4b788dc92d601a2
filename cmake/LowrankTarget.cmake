# What every target of ours is built with: C++20, hidden symbols, strict warnings, one shared
# precompiled header (LibTorch's headers cost 10 to 20 s a file without it).

function(lowrank_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE OFF)
  # -fPIC for programs too, where CMake would say -fPIE: one precompiled header serves all.
  target_compile_options(${target} PRIVATE -fPIC)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
    -Wno-sign-conversion)
  if(LOWRANK_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(LOWRANK_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=${LOWRANK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=${LOWRANK_SANITIZE})
    target_compile_definitions(${target} PRIVATE LOWRANK_SANITIZE)
    # g++ 12 takes LibTorch's c10::optional for uninitialized where checks are compiled in.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  endif()
endfunction()

# Reuses the library's precompiled header: the flags of the two targets must be the same.
function(lowrank_reuse_precompiled_header target)
  target_precompile_headers(${target} REUSE_FROM lowrank_objects)
endfunction()
