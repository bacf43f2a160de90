"""Measures the time of a process that prints --help, and of 'true'."""
import sys
from common import figure, median, timed

reeve, rounds = sys.argv[1], int(sys.argv[2])
helps, empties = [], []
for _ in range(rounds * 10):
    helps.append(timed([reeve, "--help"]))
    empties.append(timed(["true"]))
figure("start_help_ms", f"{median(helps) * 1000:.1f}", "<20")
figure("start_true_ms", f"{median(empties) * 1000:.1f}", "-")
