"""`qc.html`: the quality of a prepared cohort."""
