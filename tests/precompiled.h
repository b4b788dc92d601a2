#pragma once

// Like src/precompiled.h, with what nearly every test needs as well: parsing gmock takes 2.5 s.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
