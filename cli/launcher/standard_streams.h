#pragma once

#include <string>
#include <system_error>

/// How a program of ours begins with its standard streams and ends with them.
namespace lowrank::cli {

constexpr int kFailed = 1;
constexpr int kWrongArguments = 2;

/// A closed standard stream would give its number to the next file that is opened, and what is
/// printed would go into that file. Whatever is done with what stands in for it fails.
void occupy_closed_streams();

/// Prints the sentence; gives the status back.
int report(const std::string& sentence, int status);

/// Says that standard output could not be written; gives kFailed.
int report_unwritten_output(const std::error_code& reason);

/// Writes what is left in the buffer of standard output: 0, or what report_unwritten_output()
/// gives.
int finish_output();

}  // namespace lowrank::cli
