"""What the tokens of a stage-1 run keep of a scan."""
