"""The command line: `python -m tools.vm --kernel trixie -- python -m pytest tests`."""

import argparse
import contextlib
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
from tools.vm.matrix import run_matrix
from tools.vm.outcome import TIMED_OUT, VM_FAILED, Outcome
from tools.vm.programs import find_program
from tools.vm.root_image import native_root_image
from tools.vm.run import Limits, Run, execute
from tools.vm.summary import write_summary

EPILOG = f"""exit status: the command's; {TIMED_OUT} when it was out of time, {VM_FAILED} when the machine could not
be made or died. With several kernels: 0 if all is well, else 1."""


def main(arguments: Sequence[str]) -> int:
    """Run as the arguments say; the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    try:
        return _run(_parse(arguments))
    except VmError as error:
        print(f"tools.vm: {error}", file=sys.stderr)
        return VM_FAILED
    except BrokenPipeError:  # who read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("tools.vm: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    known = ", ".join(f"{suite} ({series})" for suite, series in SERIES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tools.vm", description="Run a command as root under another kernel.", epilog=EPILOG
    )
    add = parser.add_argument
    add("--kernel", action="append", required=True, help=f"{known}, `all` for {', '.join(MATRIX)}, or an image's path")
    add("--modules", type=Path, help="directory with the modules of a kernel given by path")
    add("--arch", choices=sorted(MACHINES), help="machine to emulate (default: like this one)")
    add("--timeout", type=float, default=900, metavar="SECONDS", help="for the whole run (default 900)")
    add("--silence", type=float, default=300, metavar="SECONDS", help="without any output (default 300)")
    add("--memory", type=int, default=768, metavar="MB", help="the guest's memory (default 768)")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="auto: KVM where it works (default)")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="an environment variable for the command")
    add("--results", type=Path, help="directory for the console and what the command writes to /vm/results")
    add("--jobs", type=int, default=2, help="machines at a time, for several kernels (default 2)")
    add("command", nargs="+", help="what to run, after --")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    kernels = [name for given in options.kernel for name in (MATRIX if given == "all" else (given,))]
    machine = MACHINES[options.arch or native_architecture()]
    for program in (machine.qemu, "mke2fs", "debugfs", "setpriv"):  # before anything is downloaded or built
        find_program(program)
    if options.results is not None:
        _create(options.results)
    cache = Cache.from_environment()
    kvm = options.accel == "kvm" or (options.accel == "auto" and kvm_works(machine, cache))
    if len(kernels) > 1:
        return run_matrix(kernels, _same_options(options, machine, kvm), options.jobs, options.results)
    run = _prepare(options, kernels[0], machine, kvm, cache)
    outcome = execute(run, cache, _print)
    _report(outcome)
    if run.results is not None:
        write_summary(run.results, run.kernel.name, outcome)
    return outcome.exit_status


def _prepare(options: argparse.Namespace, kernel: str, machine: Machine, kvm: bool, cache: Cache) -> Run:
    return Run(
        kernel=find_kernel(kernel, options.modules, machine, cache),
        machine=machine,
        root=_root_image(machine, cache),
        job=Job(options.command, Path.cwd(), _variables(options.env)),
        kvm=kvm,
        memory_mb=options.memory,
        limits=Limits(options.timeout, options.silence),
        results=options.results and options.results.absolute(),
    )


def _create(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VmError(f"cannot create --results {results}: {error.strerror}") from None


def _root_image(machine: Machine, cache: Cache) -> Path:
    if machine.is_native:
        return native_root_image(cache)
    return debian_root_image(machine, cache)


def _variables(given: Sequence[str]) -> dict[str, str]:
    for entry in given:
        if "=" not in entry:
            raise VmError(f"--env {entry}: give it as NAME=VALUE")
    return {name: value for name, _, value in (entry.partition("=") for entry in given)}


def _same_options(options: argparse.Namespace, machine: Machine, kvm: bool) -> list[str]:
    """The arguments of each machine's own run, without kernel and results; what was tried is not tried again."""
    arguments = ["--arch", machine.architecture, "--accel", "kvm" if kvm else "tcg"]
    for name in ("timeout", "silence", "memory"):
        arguments += [f"--{name}", str(getattr(options, name))]
    if options.modules:
        arguments += ["--modules", str(options.modules)]
    for entry in options.env:
        arguments += ["--env", entry]
    return [*arguments, "--", *options.command]


def _print(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _report(outcome: Outcome) -> None:
    with contextlib.suppress(BrokenPipeError):
        for trouble in outcome.troubles:
            print(f"tools.vm: {trouble}", file=sys.stderr)
        if outcome.console_tail:
            print("tools.vm: the console's last lines:", file=sys.stderr)
        for line in outcome.console_tail:
            print(f"  | {line}", file=sys.stderr)
