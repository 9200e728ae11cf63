"""From series to measures to sentences."""
