#pragma once

/// Includes all of lowrank. Programs that care about compile time should include only the headers
/// that they use.
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/combine.h>
#include <lowrank/adapter/config_fields.h>
#include <lowrank/adapter/init_options.h>
#include <lowrank/adapter/inspect.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/adapter/parameter_group.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/error.h>
#include <lowrank/export.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/json.h>
#include <lowrank/io/mapped_files.h>
#include <lowrank/io/matrix_file.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/printable.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/sha256.h>
#include <lowrank/io/text_matrix.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/factorize.h>
#include <lowrank/linalg/numerical_rank.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/linalg/thin_svd.h>
#include <lowrank/machine/machine.h>
#include <lowrank/nn/linear_relu.h>
#include <lowrank/nn/lora_layers.h>
#include <lowrank/optim/accelerate.h>
#include <lowrank/optim/adam.h>
#include <lowrank/train/interrupt.h>
#include <lowrank/train/schedule.h>
#include <lowrank/version.h>
