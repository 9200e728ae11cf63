"""Which data folders are not ours to write to: those of the original, and read-only ones."""

from __future__ import annotations

import os
from pathlib import Path

ORIGINAL_T_R = 2.0  # seconds: the original's stores are resampled to it and do not say so
METADATA = "metadata_with_text_medical_gpt.csv"  # in a folder of the original: labels and texts


def is_original(folder: Path) -> bool:
    """Return whether a folder is one of the original's, and none of ours."""
    return (folder / METADATA).is_file() and not (folder / "participants.tsv").is_file()


def is_ours(folder: Path) -> bool:
    """Return whether our files may be written into a folder."""
    return not is_original(folder) and os.access(folder, os.W_OK)
