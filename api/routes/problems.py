"""The published list of problem codes: what a problem's `type` points to."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.problem_types import PROBLEM_TYPES, ProblemType
from domain.errors import NotFound

router = APIRouter(prefix="/problems", tags=["problems"])


class ProblemCode(BaseModel):
    """One code, what it means and what to do about it."""

    type: str
    code: str
    status: int
    title: str
    meaning: str


class ProblemCodes(BaseModel):
    """Every code that an answer may carry."""

    items: list[ProblemCode]


@router.get("", summary="All problem codes")
async def list_problems() -> ProblemCodes:
    return ProblemCodes(items=[_shown(code, kind) for code, kind in PROBLEM_TYPES.items()])


@router.get("/{code}", summary="One problem code")
async def read_problem(code: str) -> ProblemCode:
    kind = PROBLEM_TYPES.get(code)
    if kind is None:
        raise NotFound("There is no such problem code.")
    return _shown(code, kind)


def _shown(code: str, kind: ProblemType) -> ProblemCode:
    return ProblemCode(type=f"/problems/{code}", code=code, status=int(kind.status), title=kind.title, meaning=kind.meaning)
