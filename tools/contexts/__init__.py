"""Which fields of a context each type of program may read and write, found by trying; and the modules made of that.

    for kernel in 5.10 6.1 6.12 7.2; do
        python -m tools.vm --kernel $kernel --results build/contexts/$kernel -- \\
            sh -c 'python -m tools.contexts.measure > /vm/results/contexts.json'
    done
    python -m tools.contexts.generate build/contexts
"""
