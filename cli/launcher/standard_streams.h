#pragma once

#include <string>
#include <system_error>

/// What our programs do with their standard streams at the start and at the end.
namespace lowrank::cli {

constexpr int kFailed = 1;
constexpr int kWrongArguments = 2;

/// Opens /dev/null in place of every standard stream that is closed. Otherwise the next file that
/// is opened would get the stream's number, and printed text would go into that file. /dev/null is
/// opened in the wrong direction, so that using the stream fails as it should.
void occupy_closed_streams();

/// Prints the sentence to standard error; returns the status.
int report(const std::string& sentence, int status);

/// Reports that standard output could not be written; returns kFailed.
int report_unwritten_output(const std::error_code& reason);

/// Writes what is left in the buffer of standard output. Returns 0, or if that fails, the result of
/// report_unwritten_output().
int finish_output();

}  // namespace lowrank::cli
