"""Run a command under another kernel, in a throw-away virtual machine: `python -m tools.vm --kernel trixie -- …`.

Neither KVM nor any privilege is needed. docs/kernels.md says how it is used and how a kernel is added.

The way of a run: cli → kernel (apt, modules) → root_image and job_image (disk) → emulator, driven by run → outcome.
Several kernels: matrix starts one such run a kernel and puts their results into tables.
"""
