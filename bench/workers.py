"""The processes that are measured, and the settings that they run in."""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import platform
import subprocess
import sys

RIVALS = pathlib.Path(__file__).resolve().parent / "rivals.py"
BLAS_FOLDERS = ("openblas-openmp", "openblas-pthread", "blis-openmp")  # Debian's, below /usr/lib/*
WARM_UP = 0.3


@dataclasses.dataclass(frozen=True)
class Setting:
    blas: str | None = None  # a folder with libblas.so.3; None: the system's default
    kernels: str | None = None  # OpenBLAS's kernels, if it would choose the wrong ones
    threads: int = 0  # LibTorch's; 0: each library's default
    blas_threads: int = 0  # the BLAS library's own

    def environment(self):
        result = dict(os.environ)
        if self.blas:
            result["LD_LIBRARY_PATH"] = self.blas
        if self.kernels:
            result["OPENBLAS_CORETYPE"] = self.kernels
        if self.threads:
            result["OMP_NUM_THREADS"] = str(self.threads)
            result["OPENBLAS_NUM_THREADS"] = result["BLIS_NUM_THREADS"] = str(self.blas_threads)
        return result

    def __str__(self):
        blas = pathlib.Path(self.blas).name if self.blas else "system BLAS"
        if self.kernels:
            blas += f" ({self.kernels})"
        if not self.threads:
            return "as installed"
        return f"{blas}, {self.threads} + {self.blas_threads} threads"


INSTALLED = Setting()


def usable_cores():
    return len(os.sched_getaffinity(0))


def processor(field):
    """The value of this field in Linux's /proc/cpuinfo, or an empty text."""
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(field))
    return ""


@functools.cache
def better_kernels(program, folder):
    """The kernels that OpenBLAS must be told to use if it does not know the processor and takes it
    for an old one. None if its own choice is right, or if it is another library. `program` is our
    benchmark, which can tell."""
    with Worker(Contestant("lowrank", [program]), Setting(blas=folder)) as worker:
        return worker.ask("kernels")["better"] or None


def settings(program, counts=None):
    """Every one of Debian's BLAS libraries on this machine, with each of these numbers of threads
    (by default 1 and all) in LibTorch alone, and in both."""
    folders = [str(f) for name in BLAS_FOLDERS for f in sorted(pathlib.Path("/usr/lib").glob(f"*/{name}"))]
    pairs = dict.fromkeys(pair for n in counts or (1, usable_cores()) for pair in ((n, 1), (n, n)))
    kernels = {folder: better_kernels(program, folder) for folder in folders}
    return [Setting(folder, kernels.get(folder), *pair) for folder in folders or [None] for pair in pairs]


@dataclasses.dataclass
class Contestant:
    name: str
    command: list
    scouted: dict = dataclasses.field(default_factory=dict)  # request -> setting -> rate

    def best(self, request):
        rates = self.scouted[request]
        return max(rates, key=rates.get)


def lowrank(build, what):
    return Contestant("lowrank", [training_bench(build), "--what", what])


def rival(name, way):
    return Contestant(name, [sys.executable, "-W", "ignore", str(RIVALS), "--way", way])


class Worker:
    """A contestant's process, which prints one answer for each line that it is sent."""

    least_share = 1.0  # the least share of a core that any measurement got

    def __init__(self, contestant, setting, arguments=()):
        self.command = [*contestant.command, *arguments]
        if setting.threads:
            self.command += ["--threads", str(setting.threads)]
        self.process = subprocess.Popen(
            self.command, env=setting.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench: {' '.join(self.command)} must print a line. Got exit {self.process.wait()}.")
        return json.loads(line)

    def ask(self, request, seconds=0):
        """Sends a request such as "train 10 1", with the seconds after its first word. Returns the
        answer."""
        what, *shape = request.split()
        self.process.stdin.write(" ".join([what, str(seconds), *shape]) + "\n")
        self.process.stdin.flush()
        answer = self.read()
        if "cpu_seconds" in answer:
            Worker.least_share = min(Worker.least_share, answer["cpu_seconds"] / answer["seconds"])
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def training_bench(build):
    return str(build / "bench" / "training_bench")


def scout(build, contestant, requests, seconds, counts=None):
    """Runs each request for a short time in every setting, with these numbers of threads."""
    for setting in settings(training_bench(build), counts):
        with Worker(contestant, setting) as worker:
            for request in requests:
                worker.ask(request, WARM_UP / 3)
                rate = worker.ask(request, seconds)["rate"]
                contestant.scouted.setdefault(request, {})[setting] = rate


@dataclasses.dataclass(frozen=True)
class Measurement:
    key: str
    contestant: Contestant
    setting: Setting
    request: str


def in_turn(measurements, rounds, seconds):
    """Measures in turn, A B C A B C, so that a slow moment of the machine affects all. Returns the
    answers for each key. The processes stay open, one for each setting."""
    answers = {measurement.key: [] for measurement in measurements}
    with contextlib.ExitStack() as stack:
        workers = {}
        for m in measurements:
            place = (m.contestant.name, tuple(m.contestant.command), m.setting)
            if place not in workers:
                workers[place] = stack.enter_context(Worker(m.contestant, m.setting))
            workers[m.key] = workers[place]
            workers[m.key].ask(m.request, WARM_UP)
        for _ in range(rounds):
            for m in measurements:
                answers[m.key].append(workers[m.key].ask(m.request, seconds))
    return answers


def machine_in_words():
    return {
        "cpu": processor("model name") or "unknown",
        "cores": usable_cores(),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
    }
