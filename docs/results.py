"""Put the results of `make demo` into README.md, between the marks (run by `make results`)."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
MARKS = "<!-- results: make results -->", "<!-- end of results -->"


def main() -> None:
    """Read the summaries of the demo's runs and rewrite the README's table."""
    parts = []
    for name in ("heat-instruct", "sex-instruct"):
        path = README.parent / "demo/runs" / name / "evaluation/summary.md"
        if not path.is_file():
            raise SystemExit(f"{path} not found: run `make demo` first")
        body = path.read_text(encoding="utf-8").split("\n", 2)[2]  # without the heading
        parts.append(re.sub(r"^## ", "### ", body, flags=re.M).strip())
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    tables = "\n\n".join(parts)
    README.write_text(f"{before}{MARKS[0]}\n{tables}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
