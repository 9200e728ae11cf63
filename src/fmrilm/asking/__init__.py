"""Ask a trained model about a scan: on the command line and in Python."""
