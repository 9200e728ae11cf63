"""Released checkpoints of the original as run folders of this package."""
