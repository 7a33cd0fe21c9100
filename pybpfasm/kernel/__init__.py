"""The running kernel."""
