"""Components: documented, thin, and runnable anywhere without installing anything."""

import ast
import inspect

import pytest

from unsee_components import IMAGE, readme

NAMES = readme.component_names()


def test_every_step_of_the_design_has_a_component():
    steps = "resolve_settings prepare_benchmark build_vanilla build_retrained collect_statistics prune unlearn evaluate"
    assert set(NAMES) == {
        *steps.split(),
        "relearn_attack",
        "report",
        "register",
        "finish",
        "compare_methods",
        "compare_report",
        "sweep_candidates",
        "claim_requests",
        "match_requests",
        "answer_requests",
    }


@pytest.mark.parametrize("name", NAMES)
def test_readme_is_what_the_docstring_says(name):
    written = (readme.FOLDER / name / "README.md").read_text()
    assert written == readme.readme(name), "run `make readme`"
    assert [line for line in written.splitlines() if line.startswith("| `") and not line.endswith(" |")] == []


@pytest.mark.parametrize("name", NAMES)
def test_body_has_at_most_ten_lines(name):
    source = inspect.getsource(readme.load(name).python_func)
    (function,) = ast.parse(source).body
    body = [line for statement in function.body[1:] for line in ast.get_source_segment(source, statement).splitlines()]
    assert 0 < len([line for line in body if line.strip()]) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_every_input_and_output_is_documented(name):
    specification = readme.load(name).component_spec
    fields = {**(specification.inputs or {}), **(specification.outputs or {})}
    assert [field for field, spec in fields.items() if not spec.description] == []


@pytest.mark.parametrize("name", NAMES)
def test_component_runs_the_step_image_and_installs_nothing(name):
    container = readme.load(name).component_spec.implementation.container
    assert container.image == IMAGE
    assert "pip install" not in " ".join(container.command)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"finish", "resolve_settings", "sweep_candidates"}))
def test_component_shows_its_metrics(name):
    assert readme.load(name).component_spec.outputs["metrics"].type.startswith("system.Metrics@")
