"""What a run has seen, and how a scan is recognised by its content."""
