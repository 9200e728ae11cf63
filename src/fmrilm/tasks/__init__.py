"""Questions, answers and their wording; pure Python."""

from fmrilm.config.schema import SCAN_MARK as SCAN
from fmrilm.tasks import catalog as _catalog  # noqa: F401  (fills the registry)
from fmrilm.tasks.base import TASKS, Task, is_missing
from fmrilm.tasks.declared import declare, undeclared
from fmrilm.tasks.messages import build_conversation, build_prompt, build_report

__all__ = [
    "SCAN",
    "TASKS",
    "Task",
    "build_conversation",
    "build_prompt",
    "build_report",
    "declare",
    "is_missing",
    "undeclared",
]
