from fmrilm.evaluation.descriptions.descriptions import PRIMARY, ROLES, SHOWN
from fmrilm.evaluation.results import Predictor
from fmrilm.reporting.views import description_view
from fmrilm.stats.intervals import Estimate


def test_every_text_stands_with_its_scores_and_the_difference_to_the_model():
    scores = {name: Estimate(0.5, 0.4, 0.6) for name in SHOWN}
    gap = {PRIMARY: Estimate(0.1, -0.05, 0.2)}
    predictors = {
        name: Predictor(role, title, scores, {} if name == "model" else gap).to_dict()
        for name, (role, title) in ROLES.items()
    }
    about = {"cohort": "toy", "synthetic": True, "split": "test", "n_scans": 9, "n_subjects": 8}
    about |= {"primary": PRIMARY, "verdict": "the text is no truer"}
    view = description_view({**about, "scan_adds": False, "texts": {}, "predictors": predictors})
    assert [row["title"] for row in view["rows"]] == [title for _, title in ROLES.values()]
    assert view["rows"][0]["difference"] == ""
    assert view["rows"][1]["difference"] == "+0.100 [-0.05, +0.20]"
    assert len(view["headings"]) == len(view["rows"][0]["scores"]) + 1
