"""`fmrilm doctor` and `fmrilm audit`: faults and leaks, each with a remedy."""
