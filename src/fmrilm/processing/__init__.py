"""What stands between a raw scan and a model: the processor, and how unlike training a scan is."""
