"""Series in time: repetition time, resampling, non-steady-state volumes."""
