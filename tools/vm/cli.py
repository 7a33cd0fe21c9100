"""The command line: `python -m tools.vm --kernel trixie -- python -m pytest tests`."""

import argparse
import contextlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.vm.acceleration import kvm_works
from tools.vm.cache import Cache
from tools.vm.debian_root import debian_root_image
from tools.vm.errors import VmError
from tools.vm.job_image import Job
from tools.vm.kernel import MATRIX, SERIES, find_kernel
from tools.vm.machine import MACHINES, Machine, native_architecture
from tools.vm.matrix import RESULTS, run_matrix
from tools.vm.native import NATIVE, run_natively
from tools.vm.outcome import TIMED_OUT, VM_FAILED, Outcome
from tools.vm.programs import find_program
from tools.vm.results import results_directory
from tools.vm.root_image import native_root_image
from tools.vm.run import Limits, Run, execute
from tools.vm.summary import write_summary

EPILOG = f"""exit status: the command's; {TIMED_OUT} when it was out of time, {VM_FAILED} when the machine could not
be made or died; 2 for options that are wrong. With several kernels, or --table: 0 if all is well, else 1."""
LEAST_MEMORY_MB = 128


def main(arguments: Sequence[str]) -> int:
    """Run as the arguments say; the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    try:
        return _start(_parse(arguments))
    except VmError as error:
        print(f"tools.vm: {error}", file=sys.stderr)
        return VM_FAILED
    except BrokenPipeError:  # who read the output has gone, as `head` does
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_output()
        place = f"{error.filename}: " if error.filename is not None else ""
        print(f"tools.vm: {place}{error.strerror or error}", file=sys.stderr)
        return VM_FAILED


def _drop_output() -> None:
    """What could not be written is not tried again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    known = ", ".join(f"{suite} ({series})" for suite, series in SERIES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.vm", description="Run a command as root under another kernel.", epilog=EPILOG
    )
    add = parser.add_argument
    kernels = f"{known}, `all` for {', '.join(MATRIX)}, `{NATIVE}` for the running one, or an image's path"
    add("--kernel", action="append", required=True, help=kernels)
    add("--modules", type=Path, help="directory with the modules of a kernel given by path")
    add("--arch", choices=sorted(MACHINES), help="machine to emulate (default: like this one)")
    add("--timeout", type=_seconds, default=900, metavar="SECONDS", help="for the whole run (default 900)")
    add("--silence", type=_seconds, default=400, metavar="SECONDS", help="without any output (default 400)")
    add("--memory", type=_memory, default=768, metavar="MB", help="the guest's memory (default 768)")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="auto: KVM where it works (default)")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="an environment variable for the command")
    add("--results", type=Path, help="directory for the console and what the command writes to /vm/results")
    add("--table", action="store_true", help="output to files and a table, as for several kernels, also for one")
    add("--jobs", type=int, default=2, help="machines at a time, for several kernels (default 2)")
    add("--total", type=_seconds, default=900, metavar="SECONDS", help="for all kernels together (default 900)")
    add("command", nargs="+", help="what to run, after --")
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return seconds


def _memory(text: str) -> int:
    megabytes = int(text)
    if megabytes < LEAST_MEMORY_MB:
        raise argparse.ArgumentTypeError(f"{text} MB: no kernel comes up in less than {LEAST_MEMORY_MB}")
    return megabytes


def _start(options: argparse.Namespace) -> int:
    if sys.stdout is None:
        raise VmError("standard output is closed: to be without the output, send it to /dev/null")
    given = (MATRIX if name == "all" else (name,) for name in options.kernel)
    kernels = list(dict.fromkeys(name for names in given for name in names))
    if len(kernels) > 1 or options.table:
        arguments = _same_options(options, kernels)
        with results_directory((options.results or RESULTS).absolute()) as results:
            return run_matrix(kernels, arguments, options.jobs, options.total, results)
    with contextlib.ExitStack() as held:
        results = options.results and held.enter_context(results_directory(options.results.absolute()))
        outcome = _run_under(kernels[0], options, results)
        _report(outcome)
        if results is not None:
            write_summary(results, Path(kernels[0]).name, outcome)
        return outcome.exit_status


def _run_under(kernel: str, options: argparse.Namespace, results: Path | None) -> Outcome:
    if kernel == NATIVE:
        if options.arch and not MACHINES[options.arch].is_native:
            raise VmError(f"--kernel {NATIVE} is this machine's own: it does not go with --arch {options.arch}")
        return run_natively(options.command, _variables(options.env), options.timeout, results)
    machine, cache, kvm = _try_out(options)
    job = Job(options.command, _current_directory(), _variables(options.env))
    with cache.filled():
        run = Run(
            kernel=find_kernel(kernel, options.modules, machine, cache),
            machine=machine,
            root=_root_image(machine, cache),
            job=job,
            kvm=kvm,
            memory_mb=options.memory,
            limits=Limits(options.timeout, options.silence),
            results=results,
        )
    return execute(run, cache, _print)


def _try_out(options: argparse.Namespace) -> tuple[Machine, Cache, bool]:
    """The machine, the cache, and whether KVM is used; what is missing is told before anything is downloaded."""
    machine = MACHINES[options.arch or native_architecture()]
    if options.accel == "kvm" and not machine.is_native:
        raise VmError(f"--accel kvm is for machines like this one, --arch {machine.architecture} is not: choose tcg")
    for program in (machine.qemu, "mke2fs", "debugfs", "setpriv"):
        find_program(program)
    cache = Cache.from_environment()
    with cache.filled():
        kvm = options.accel == "kvm" or (options.accel == "auto" and kvm_works(machine, cache))
    return machine, cache, kvm


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise VmError("the current directory has been removed, and the command was to run in a copy of it") from None


def _root_image(machine: Machine, cache: Cache) -> Path:
    if machine.is_native:
        return native_root_image(cache)
    return debian_root_image(machine, cache)


def _variables(given: Sequence[str]) -> dict[str, str]:
    for entry in given:
        if "=" not in entry:
            raise VmError(f"--env {entry}: give it as NAME=VALUE")
    return {name: value for name, _, value in (entry.partition("=") for entry in given)}


def _same_options(options: argparse.Namespace, kernels: Sequence[str]) -> list[str]:
    """The arguments of each kernel's own run, without kernel and results; what was tried is not tried again."""
    arguments: list[str] = []
    if kernels != [NATIVE]:
        machine, _, kvm = _try_out(options)
        arguments += ["--arch", machine.architecture, "--accel", "kvm" if kvm else "tcg"]
    for name in ("timeout", "silence", "memory"):
        arguments += [f"--{name}", str(getattr(options, name))]
    if options.modules:
        arguments += ["--modules", str(options.modules)]
    for entry in options.env:
        arguments += ["--env", entry]
    return [*arguments, "--", *options.command]


def _print(chunk: bytes) -> None:
    try:
        while chunk:
            chunk = chunk[os.write(sys.stdout.fileno(), chunk) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise VmError(f"cannot write the command's output to standard output: {error.strerror}") from None


def _report(outcome: Outcome) -> None:
    with contextlib.suppress(BrokenPipeError):
        for trouble in outcome.troubles:
            print(f"tools.vm: {trouble}", file=sys.stderr)
        if outcome.console_tail:
            print("tools.vm: the console's last lines:", file=sys.stderr)
        for line in outcome.console_tail:
            print(f"  | {line}", file=sys.stderr)
