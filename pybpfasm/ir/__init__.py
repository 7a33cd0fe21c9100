"""The compiler's intermediate form: functions of blocks of operations on values (SSA)."""
