"""What was seen and done, and what should not have been."""

from collections import Counter

# So many complaints are told in full; a broken program makes thousands.
TOLD_MAX = 30


class Ledger:
    """The books of one run. Everybody writes, the end reads."""

    def __init__(self):
        self.faults = Counter()
        self.seen = Counter()
        self.complaints = []
        self.complaint_kinds = Counter()
        # Events that clients received, by the life of sidestream on whose connection they came.
        self.received = Counter()
        # Set by the run: adds the time and the state of the world to a complaint.
        self.when = lambda: ''

    def fault(self, kind: str):
        """Something was done on purpose that a good program shrugs off."""
        self.faults[kind] += 1

    def complain(self, kind: str, what: str):
        """Something happened that must not."""
        self.complaint_kinds[kind] += 1
        if len(self.complaints) < TOLD_MAX:
            self.complaints.append(f'{kind}: {what} {self.when()}'.rstrip())

    def check(self, holds: bool, kind: str, what: str):
        if not holds:
            self.complain(kind, what)
