"""The tasks that come with fmrilm. Another one is one more ``TASKS.register(...)``."""

from fmrilm.tasks.base import TASKS, Task

_LEVELS = {"0": "lower", "1": "mean", "2": "higher"}
_DEGREES = {str(value): str(value) for value in range(42, 47)}  # Celsius, rounded
_HEAT = ("temperature", "degrees", "high_temperature")
_AD_MARKERS = ("cdr", "cdrsb", "mmse", "av45", "av45_enc", "diagnosis", "AD")


def _grid(first: int, last: int) -> tuple[float, ...]:
    return tuple(float(value) for value in range(first, last + 1))


for _task in (
    Task("sex", "sex", {"M": "Male", "F": "Female"}, reveals=("sex",)),
    Task("fluidintel_enc", "fluidintel_enc", _LEVELS, "ordinal", ("fluidintel", "fluidintel_enc")),
    Task("flanker_enc", "flanker_enc", _LEVELS, "ordinal", ("flanker", "flanker_enc")),
    Task("AD", "AD", {"0": "CN", "1": "AD"}, reveals=_AD_MARKERS),
    Task(
        "apoe4_enc", "apoe4_enc", {"0": "negative", "1": "positive"}, reveals=("apoe4", "apoe4_enc")
    ),
    Task("av45_enc", "av45_enc", {"0": "negative", "1": "positive"}, reveals=("av45", "av45_enc")),
    Task("ADHD", "ADHD", {"0": "Control", "1": "ADHD"}, reveals=("ADHD", "adhd_index", "iq")),
    Task("ASD", "ASD", {"0": "Control", "1": "Autism"}, reveals=("ASD", "ados", "iq")),
    Task("group", "group", {"0": "first", "1": "second"}, reveals=("group",)),
    Task("stimulus", "stimulus", {"0": "rating", "1": "stimulus"}, reveals=("stimulus", "events")),
    Task("temperature", "degrees", _DEGREES, "ordinal", _HEAT),
    Task("high_temperature", "high_temperature", {"0": "low", "1": "high"}, reveals=_HEAT),
    Task(
        "regulate",
        "regulate",
        {"0": "passive", "1": "regulate"},
        reveals=("regulate", "instruction", "run"),
    ),
    Task("age", "age", kind="regression", reveals=("age",), values=_grid(5, 100)),
    Task(
        "fluidintel",
        "fluidintel",
        kind="regression",
        reveals=("fluidintel", "fluidintel_enc"),
        values=_grid(0, 160),  # UKB 0 to 13, HCP's matrices 0 to 24, NIH Toolbox around 100
    ),
    Task(
        "flanker",
        "flanker",
        kind="regression",
        reveals=("flanker", "flanker_enc"),
        values=_grid(0, 160),  # NIH Toolbox: computed 0 to 10, unadjusted around 100
    ),
    Task(
        "pain_rating",
        "pain_rating",
        kind="regression",
        reveals=("pain_rating",),
        values=tuple(float(value) for value in range(0, 201, 10)),
    ),
    Task("describe", "", kind="description"),
    Task("report", "", kind="description"),  # open-ended: sentences about several tasks
):
    TASKS.register(_task.name)(_task)
