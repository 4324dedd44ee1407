"""Write each component's README.md from its docstring and signature: `python -m unsee_components.readme`."""

from importlib import import_module
from pathlib import Path

from kfp.dsl.base_component import BaseComponent

FOLDER = Path(__file__).parent


def component_names() -> list[str]:
    """Folders that hold a component."""
    return sorted(path.parent.name for path in FOLDER.glob("*/component.py"))


def load(name: str) -> BaseComponent:
    """The component in folder `name`, which is also its function's name."""
    return vars(import_module(f"unsee_components.{name}.component"))[name]


def readme(name: str) -> str:
    """The text of a component's README.md."""
    component = load(name)
    parts = [f"# {component.name}", component.description]
    for title, fields in (("Inputs", _inputs(component)), ("Outputs", _outputs(component))):
        if fields:
            parts.append(f"## {title}\n\n| name | type | meaning |\n|---|---|---|\n" + "\n".join(fields))
    return "\n\n".join(parts) + "\n"


def _inputs(component: BaseComponent) -> list[str]:
    specs = component.component_spec.inputs or {}
    return [
        f"| `{name}` | {_type(spec.type)}{', optional' if spec.optional else ''} | {_line(spec.description)} |"
        for name, spec in specs.items()
    ]


def _outputs(component: BaseComponent) -> list[str]:
    specs = component.component_spec.outputs or {}
    return [f"| `{name}` | {_type(spec.type)} | {_line(spec.description)} |" for name, spec in specs.items()]


def _line(description: str) -> str:
    """A cell of a table ends with its line."""
    return " ".join(description.split())


def _type(schema: str) -> str:
    """`system.Model@0.0.1` -> Model."""
    return schema.removeprefix("system.").partition("@")[0]


def main() -> None:
    """Write every README.md."""
    for name in component_names():
        (FOLDER / name / "README.md").write_text(readme(name))


if __name__ == "__main__":
    main()
