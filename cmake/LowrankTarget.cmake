# How all our targets are built: C++20, hidden symbols, strict warnings, one shared precompiled
# header (LibTorch's headers cost 10 to 20 s per file without it).

function(lowrank_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE OFF)
  # -fPIC for programs too, instead of CMake's -fPIE, so that one precompiled header serves all.
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
    # With the sanitizers' checks compiled in, g++ 12 believes LibTorch's c10::optional to be
    # uninitialized.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  endif()
endfunction()

# Compiles one source of a target with OpenMP: at::parallel_for is serial in files without it.
function(lowrank_compile_with_openmp target source)
  if(OpenMP_CXX_FOUND)
    set_source_files_properties(${source} PROPERTIES
      COMPILE_OPTIONS "${OpenMP_CXX_FLAGS}"
      SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
    target_link_libraries(${target} PUBLIC ${OpenMP_CXX_LIBRARIES})
  endif()
endfunction()

# Reuses the library's precompiled header: the flags of the two targets must be the same.
function(lowrank_reuse_precompiled_header target)
  target_precompile_headers(${target} REUSE_FROM lowrank_objects)
endfunction()

# Compiles several sources of a target at a time, because LibTorch's headers and templates take
# longer than most of our sources. Names in unnamed namespaces must then differ among the sources
# of a target.
function(lowrank_join_sources target)
  if(LOWRANK_JOIN_SOURCES)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  endif()
endfunction()
