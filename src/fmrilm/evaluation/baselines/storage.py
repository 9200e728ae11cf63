"""Where the features of scans lie: in memory for few scans, in a file for many."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import numpy as np

IN_MEMORY = 2**30  # bytes up to which an array is held in memory


def allocate(shape: tuple[int, ...], dtype: Any, most: int = IN_MEMORY) -> np.ndarray:
    """Allocate an array, its values not set yet.

    One that is larger than ``most`` bytes is mapped from a nameless file in the system's folder
    for temporary files (``TMPDIR``), which is gone when the array is. The system may put its pages
    out of memory at any time.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    most : int
        Bytes.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= most:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))
