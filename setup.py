"""Where the packages lie: the DAGs and components are top-level folders. Everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, find_packages, setup


def renamed(folder: str, package: str) -> list[str]:
    """The package that a folder becomes, with everything below it."""
    return [package, *(f"{package}.{name}" for name in find_namespace_packages(folder, exclude=["*__pycache__*"]))]


setup(
    packages=[
        *find_packages("src"),
        *renamed("components", "unsee_components"),
        *renamed("pipelines", "unsee_pipelines"),
    ]
)
