"""From the syntax tree of typed Python to the intermediate form; diagnostics."""
