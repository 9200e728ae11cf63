"""Files of scans: finding them, and reading each format as region series."""
