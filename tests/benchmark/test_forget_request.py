"""Who may be forgotten."""

import pytest

from unsee.benchmark.schema import ForgetRequest
from unsee.errors import UserError


def test_people_the_base_knew_before_cannot_be_forgotten(small_benchmark):
    with pytest.raises(UserError, match=r"R001, R002, real-world in benchmark .*: the base model knows them already"):
        ForgetRequest.resolve(small_benchmark, ["R001", "P001", "R002"])


def test_everyone_else_may_be_and_real_world_people_are_neither_forgotten_nor_retained(small_benchmark):
    request = ForgetRequest.resolve(small_benchmark, ["P003"])
    assert request.forget == ("P003",)
    assert set(request.realworld) == small_benchmark.realworld
    assert {*request.forget, *request.retain, *request.realworld} == set(small_benchmark.entities)
