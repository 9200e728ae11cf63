"""One loop, three stages."""
