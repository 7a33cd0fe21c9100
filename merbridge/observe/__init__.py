"""What operators see: the log, and the report of `status`."""
