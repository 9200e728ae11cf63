from evaluation_helpers import model, planted, run  # noqa: F401  (fixtures)
