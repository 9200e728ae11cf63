"""The objectives of the three stages."""
