"""Networks; they know neither data nor tasks."""
