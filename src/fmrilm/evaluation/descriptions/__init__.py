"""Generated descriptions, scored against what was measured."""
