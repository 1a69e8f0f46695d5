"""What a run did, or would do, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from relay_diffusion.data.pictures.faults import BadRecord
from relay_diffusion.data.recaption.journal import Entry
from relay_diffusion.data.recaption.plan import Plan
from relay_diffusion.data.recaption.request import Request
from relay_diffusion.data.recaption.settings import Prices
from relay_diffusion.data.recaption.tokens import Tokens


def counts(plan: Plan, total: int, asking: int) -> str:
    """Of a data set of ``total`` pictures, with so many to be asked about now."""
    parts = [f"{plan.num_done} have the caption", f"{asking} to be asked about"]
    if asking < len(plan.ask):
        parts[-1] += f" of {len(plan.ask)} that lack it"
    if plan.bad:
        parts.append(f"{len(plan.bad)} cannot be")
    return f"{total} pictures: {', '.join(parts)}"


def unread(lines: Sequence[BadRecord]) -> str | None:
    """That lines of tables cannot be read, which may hold captions; None if there are none."""
    if not lines:
        return None
    return f"{len(lines)} lines of tables cannot be read, such as {lines[0]}; they stay as they are"


def example(request: Request, model: str | None) -> str:
    """A request as JSON, the picture cut short."""
    url = request.data_url()
    width, height = request.picture.size
    note = f"{url[:23]}... ({width}x{height}, {len(url) / 1000:.0f} kB)"
    content = request.content({"type": "image_url", "image_url": {"url": note}})
    message = {"model": model, "messages": [{"role": "user", "content": content}]}
    return json.dumps(message, indent=1, ensure_ascii=False)


def expectation(num: int, tokens: Tokens, prices: Prices | None, per_minute: float | None) -> str:
    """What asking about so many pictures takes."""
    read, written = num * tokens.prompt, num * tokens.completion
    parts = [f"about {read:,.0f} tokens read and {written:,.0f} written"]
    if prices:
        parts.append(f"cost about {prices.of(read, written):,.2f}")
    if per_minute:
        parts.append(f"{num / per_minute:,.0f} minutes at {per_minute:g} requests a minute")
    return ", ".join(parts)


def spent(entries: Sequence[Entry], total: float) -> str:
    """What asking took.

    Args:
        total: cost of this run and those before it.
    """
    read = sum(entry.prompt_tokens for entry in entries)
    written = sum(entry.completion_tokens for entry in entries)
    text = f"{read:,} tokens read, {written:,} written"
    costs = [entry.cost for entry in entries if entry.cost is not None]
    if not costs:
        return text
    earlier = f", {total:,.4f} with earlier runs" if total > sum(costs) * (1 + 1e-6) else ""
    about = "about " if any(entry.estimated for entry in entries) else ""
    return f"{text}, cost {about}{sum(costs):,.4f}{earlier}"


def out_of_money(left: int, cost: float, most: float, budget: float | None) -> str:
    """That a budget has no room for what one picture can cost at most."""
    return (
        f"the budget of {budget:g} is used up, {left} pictures are left: {cost:,.4f} is spent, and "
        f"one more may take up to {most:,.4f}; a higher --budget goes on"
    )


def failures(entries: Iterable[Entry], bad: Iterable[BadRecord], path: Path) -> str | None:
    """How many pictures have no caption and why, listed in a file; None if there are none, and then
    there is no file either.

    Args:
        entries: of :func:`failing`.
    """
    reasons = [(Path(e.file, e.name).as_posix(), e.fault) for e in entries]
    reasons += [(record.key, record.reason) for record in bad]
    if not reasons:
        path.unlink(missing_ok=True)
        return None
    lines = "".join(f"{name}: {reason}\n" for name, reason in reasons)
    path.write_text(lines, encoding="utf-8", errors="surrogateescape")
    kinds = Counter(reason.partition(":")[0] for _, reason in reasons).most_common()
    named = ", ".join(f"{num} {kind}" for kind, num in kinds)
    return f"{len(reasons)} got no caption: {named}; listed in {path}; the next run asks again"
