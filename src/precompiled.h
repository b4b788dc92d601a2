#pragma once

// The one precompiled header, with what nearly every file needs and nothing of ours: ATen takes
// 10 s to read, 3 s precompiled. A larger one (torch/nn, torch/optim) costs more to load than it
// saves. Every file still includes what it uses and builds without this one.
#include <ATen/ATen.h>

#include <nlohmann/json.hpp>
