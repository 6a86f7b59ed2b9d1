"""Why a request was refused: a fault held against the tables of an image, a trace of mappings, or both.

evidence     what is asked of tables and traces        tables   the same, answered by an image
codes        which reasons mean the same               verdict  what can have happened, and what to look at next
judging      which of them it was                      explaining   the whole answer
interrupts   the same for interrupts                   repeated     the answer to faults that repeat
"""

from pagetables.explain.evidence import History, Mappings, Moment, Region
from pagetables.explain.explaining import Explanation, explain
from pagetables.explain.repeated import Explained, explain_storm
from pagetables.explain.tables import Tables
from pagetables.explain.verdict import Verdict

__all__ = [
    "Explained",
    "Explanation",
    "History",
    "Mappings",
    "Moment",
    "Region",
    "Tables",
    "Verdict",
    "explain",
    "explain_storm",
]
