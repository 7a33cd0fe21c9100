"""How fast the interpreter runs a program, and how long the first question to the kernel's BTF takes.

python benchmarks/running.py [--rounds 7]

The loop loads, adds, stores, counts and jumps: seconds of CPU time. The question for a struct's field is asked in a
fresh process each time, reading the kernel's types included, without the imports; numbers are medians.
"""

import argparse
import statistics
import subprocess
import sys
import time

from pybpfasm import isa, sim
from pybpfasm.isa import Alu, Instruction, Jump, Label

QUESTION = """
import time
from pybpfasm.btf import kernel_btf
start = time.perf_counter()
kernel_btf().field("task_struct.mm")
print(time.perf_counter() - start)
"""


def loop(rounds: int) -> list[Instruction]:
    """A program that goes round and round."""
    return isa.resolve_labels(
        [
            isa.mov_imm(0, 0),
            isa.mov_imm(1, rounds),
            isa.store_imm(8, 10, -8, 0),
            Label("again"),
            isa.load(8, 2, 10, -8),
            isa.alu(Alu.ADD, 2, 1),
            isa.store(8, 10, -8, 2),
            isa.alu_imm(Alu.SUB, 1, 1),
            isa.jump_if_imm(Jump.JNE, 1, 0, "again"),
            isa.exit_program(),
        ]
    )


def instructions_a_second() -> float:
    """Of CPU time, in the interpreter."""
    program = loop(50_000)
    start = time.process_time()
    steps = sim.run(program).steps
    return steps / (time.process_time() - start)


def milliseconds_of_the_question() -> float:
    """In a process of its own."""
    run = subprocess.run([sys.executable, "-c", QUESTION], capture_output=True, text=True, check=True)
    return float(run.stdout) * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    speed = statistics.median(instructions_a_second() for _ in range(rounds))
    question = statistics.median(milliseconds_of_the_question() for _ in range(rounds))
    print(f"interpreter: {speed / 1e6:.2f} M instructions a second of CPU time")
    print(f"task_struct.mm, cold: {question:.1f} ms (wanted: 20)")


if __name__ == "__main__":
    main()
