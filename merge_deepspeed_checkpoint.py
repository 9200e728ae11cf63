"""As in the original; docs/guide/coming-from-fmri-lm.md says what it does here."""

from fmrilm.cli.compat import main

if __name__ == "__main__":
    main("merge_deepspeed_checkpoint")
