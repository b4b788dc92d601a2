#include <lowrank/train/interrupt.h>

#include <csignal>

namespace lowrank {
namespace {

volatile std::sig_atomic_t flag = 0;
struct sigaction before_interrupt, before_terminate, before_hangup;

void raise_flag(int signal) {
  if (flag != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  flag = 1;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  flag = 0;
  struct sigaction action = {};
  action.sa_handler = raise_flag;
  sigaction(SIGINT, &action, &before_interrupt);
  sigaction(SIGTERM, &action, &before_terminate);
  sigaction(SIGHUP, &action, &before_hangup);
  if (before_hangup.sa_handler == SIG_IGN) sigaction(SIGHUP, &before_hangup, nullptr);  // nohup
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &before_interrupt, nullptr);
  sigaction(SIGTERM, &before_terminate, nullptr);
  sigaction(SIGHUP, &before_hangup, nullptr);
}

bool interrupted() { return flag != 0; }

}  // namespace lowrank
