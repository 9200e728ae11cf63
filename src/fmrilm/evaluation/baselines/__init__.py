"""Plain models fitted on the same people."""
