"""Tokens that sum a scan up: its leading components, signal families, evidence of readers."""
