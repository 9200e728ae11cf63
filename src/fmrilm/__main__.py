"""``python -m fmrilm`` and ``accelerate launch -m fmrilm``."""

from fmrilm.cli.verbs import main

if __name__ == "__main__":
    main()
