"""Sentences of your own cohorts for the scripts with the original's names, by cohort.

Read, not run. The YAML way, `datasets: MyDataset: {description: ...}`, works everywhere.
"""

DATASET_INFO: dict[str, str] = {}
