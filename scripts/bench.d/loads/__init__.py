"""What scripts/bench systems asks of each system: a module a system, with the SQL that fills it and the calls.

FILL runs in psql with the triggers off, and reads how many rows are wanted from :rows. CHURN is the cycle of a worker
and CLAIM what takes one thing from a queue and ends it, both for pgbench; SUPPLY puts 2,000 things into that queue.
"""
import hashlib, uuid
from typing import NamedTuple

# How many jobs are open, whatever the number of rows: a queue does not grow with the history.
OPEN = 2000


class Call(NamedTuple):
    """One statement that is timed. What `before` does in the same transaction is not."""
    name: str
    sql: str
    target: str = "<50"
    role: str = ""
    before: str = ""


def key(kind, number):
    """The id of the row that FILL made as md5(kind || number)::uuid."""
    return f"'{uuid.UUID(hashlib.md5(f'{kind}{number}'.encode()).hexdigest())}'::uuid"
