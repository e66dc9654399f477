"""What a person looks at: which labels are likely wrong, and what they might be instead.

Takes arrays. Imported by ``import lossnoise``, so it loads nothing but numpy at first.
"""

from __future__ import annotations

from lossnoise.audit._audit import audit
from lossnoise.audit._report import AuditReport

__all__ = ["AuditReport", "audit"]
