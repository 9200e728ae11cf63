"""`fmrilm prepare`: from files of scans to a cohort folder."""
