#pragma once

namespace lowrank::app {

/// The two parts of a data set.
enum class Split { kTrain, kTest };

}  // namespace lowrank::app
