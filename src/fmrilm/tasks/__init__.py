"""Questions, answers and their wording; pure Python."""

from fmrilm.config import SCAN_MARK as SCAN
from fmrilm.tasks import catalog as _catalog  # noqa: F401  (fills the registry)
from fmrilm.tasks.base import TASKS, Task
from fmrilm.tasks.messages import build_prompt

__all__ = ["SCAN", "TASKS", "Task", "build_prompt"]
