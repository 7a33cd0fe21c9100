"""Passes over the intermediate form, one a file: each takes a function in SSA form and leaves one."""
