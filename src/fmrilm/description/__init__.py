"""`fmrilm describe`: the text descriptors of a cohort."""
