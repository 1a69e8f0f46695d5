"""The arena in the browser: a name is asked once, then pair after pair, each answer kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel

from relay_diffusion.evaluation.arena.pairs import Pair, turns
from relay_diffusion.evaluation.arena.showing import neutral_png
from relay_diffusion.evaluation.arena.texts import one_line
from relay_diffusion.evaluation.arena.votes import QUESTIONS, Question, VoteStore

COOKIE = "rater"
YEAR = 365 * 24 * 3600
LONGEST_NAME = 60
HERE = Path(__file__).parent


class Ballot(BaseModel):
    """An answer as the page sends it; ``left`` is the token of the picture it showed there."""

    pair: str
    left: str
    question: Question
    choice: Literal["left", "right", "tie"]


def create_app(
    pairs: Sequence[Pair], store: VoteStore, seed: int = 0, hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """The arena over these pairs, which are registered in the store here.

    Args:
        hosts: names and addresses that browsers may ask for it by; "*" is any.
    """
    store.register(pairs)
    secret = store.secret
    by_id = {pair.id: pair for pair in pairs}
    pictures = {pair.token(side, secret): pair.pictures[side] for pair in pairs for side in (0, 1)}
    templates = Jinja2Templates(directory=HERE / "templates")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.get("/")
    def page(request: Request) -> Response:
        rater = _rater(request)
        if not rater:
            return templates.TemplateResponse(request, "name.html", {"name": ""})
        state = rater_state(pairs, store, _same_person(rater), seed)
        response = templates.TemplateResponse(
            request, "rate.html", {"name": rater, "state": state, "questions": QUESTIONS}
        )
        response.headers["Cache-Control"] = "no-store"  # "back" must not bring old answers
        return response

    @app.get("/name")
    def ask_name(request: Request) -> Response:
        return templates.TemplateResponse(request, "name.html", {"name": _rater(request)})

    @app.post("/name")
    async def take_name(request: Request) -> Response:
        fields = parse_qs((await request.body()).decode(errors="replace"))
        name = one_line(fields.get("name", [""])[0])[:LONGEST_NAME]
        response = RedirectResponse("./", status_code=303)
        response.set_cookie(COOKIE, quote(name), max_age=YEAR, httponly=True, samesite="lax")
        return response

    @app.get("/pictures/{token}")
    def picture(token: str) -> Response:
        if token not in pictures:
            raise HTTPException(404, "no such picture")
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(neutral_png(pictures[token]), media_type="image/png", headers=headers)

    @app.post("/votes", status_code=201)
    def vote(request: Request, ballot: Ballot) -> dict[str, str]:
        rater = _rater(request)
        if not rater:
            raise HTTPException(401, "say who you are first")
        pair = by_id.get(ballot.pair)
        tokens = [pair.token(side, secret) for side in (0, 1)] if pair else []
        if pair is None or ballot.left not in tokens:
            raise HTTPException(404, "no such pair; reload the page")
        left = tokens.index(ballot.left)
        winner = {"left": left, "right": 1 - left, "tie": None}[ballot.choice]
        store.add(pair, _same_person(rater), ballot.question, left, winner)
        return {"saved": ballot.choice}

    return app


def rater_state(
    pairs: Sequence[Pair], store: VoteStore, rater: str, seed: int
) -> list[dict[str, Any]]:
    """The rater's turns for the page: those that are answered first, in the order of the answers.

    Nothing in here tells the models: pictures go by their tokens.
    """
    winners: dict[str, dict[str, str | None]] = defaultdict(dict)
    latest: dict[str, int] = {}
    secret = store.secret
    votes = store.votes(rater)
    for position, vote in enumerate(votes):
        winners[vote.pair][vote.question] = vote.winner
        latest[vote.pair] = position
    shown = []
    for turn in turns(pairs, rater, seed):
        pair, sides = turn.pair, (turn.left, 1 - turn.left)
        left_model = pair.models[turn.left]
        answers = {
            question: "tie" if winner is None else "left" if winner == left_model else "right"
            for question, winner in winners[pair.id].items()
        }
        shown.append(
            {
                "pair": pair.id,
                "prompt": pair.prompt,
                "tokens": [pair.token(side, secret) for side in sides],
                "sizes": [[pair.pictures[s].width, pair.pictures[s].height] for s in sides],
                "answers": answers,
            }
        )
    done = {turn["pair"] for turn in shown if len(turn["answers"]) == len(QUESTIONS)}
    return sorted(
        shown, key=lambda turn: (turn["pair"] not in done, latest.get(turn["pair"], len(votes)))
    )


def _rater(request: Request) -> str:
    """The name as it was typed; empty if it has not been asked."""
    return one_line(unquote(request.cookies.get(COOKIE, "")))


def _same_person(name: str) -> str:
    """Phones begin a name with a capital letter by themselves."""
    return name.casefold()
