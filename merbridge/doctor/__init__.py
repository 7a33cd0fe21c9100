"""What a node and its cluster have to be like for the agent, looked at one by one: `python -m merbridge doctor`."""

from merbridge.doctor.examine import examine
from merbridge.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
