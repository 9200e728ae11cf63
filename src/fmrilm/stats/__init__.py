"""Scores, intervals, tests and calibration; they know neither models nor files."""
