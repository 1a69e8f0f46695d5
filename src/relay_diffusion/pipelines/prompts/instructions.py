"""What a language model is told, so that it writes as the captions of training pictures read."""

from __future__ import annotations

from hashlib import sha256

Message = dict[str, str]

TEMPERATURE, TOP_P = 0.01, 0.7
"""Of CogView3's own expansion: nearly always the likeliest word."""
MAX_NEW_TOKENS = 400

_SYSTEM = """\
You turn short picture requests into captions for a text-to-image model. The model was trained on \
long, matter-of-fact captions, so the closer your text is to one, the better the picture.

For each request write one paragraph of 100 to 200 words, in English whatever language the request \
is in, that describes the finished picture as if you were looking at it.

Keep everything that the request states: who or what is there, how many, which colours, where each \
stands, what is written on things (in quotation marks, unchanged), and the medium or style. Where \
it says nothing, decide, and be concrete: the setting, the light and the time of day, materials \
and textures, poses and expressions, the point of view, what lies in front and what behind. Add \
no second main subject, and no mood or story that cannot be seen.

Answer with the paragraph alone: no heading, no quotation marks around it, no remarks, no \
alternatives. If a request is already that detailed, answer with it nearly unchanged."""

_EXAMPLES = (
    (
        "an old fisherman mending a net",
        "An elderly fisherman sits on an upturned wooden crate at the edge of a stone quay and "
        "mends a green nylon net that is spread across his knees. He has a short white beard, "
        "weathered skin and narrowed eyes, and wears a navy wool cap, a thick grey jumper with "
        "a frayed collar and yellow rubber boots. His right hand draws a wooden needle through "
        "the mesh while the left holds the torn edge taut. Behind him two small boats with "
        "peeling red and blue paint lie tied to iron rings, and the water of the harbour is "
        "smooth and silvery. The picture is a photograph taken at eye level in the soft light "
        "of early morning, with the man in sharp focus slightly left of the centre and the "
        "far side of the harbour, a row of whitewashed houses, blurred by a thin mist.",
    ),
    (
        "水彩画: 三只猫在窗台上",
        "A watercolour painting shows three cats sitting side by side on a broad wooden window "
        "sill. The cat on the left is ginger with pale stripes and looks out of the window, the "
        "one in the middle is plain black and faces the viewer with wide yellow eyes, and the "
        "one on the right is white with a grey patch over one ear and has its eyes closed. "
        "Behind them a tall window with a thin white frame opens on a garden in which the trees "
        "are only loose washes of green and yellow. A clay pot with a small red geranium stands "
        "at the right end of the sill. Daylight falls in from behind and gives the fur of each "
        "cat a bright outline. The colours are thin and run into one another at the edges, and "
        "the grain of the paper shows through in the sky and along the wall below.",
    ),
)


def messages(prompt: str) -> list[Message]:
    """The conversation that asks for a prompt's long form."""
    told: list[Message] = [{"role": "system", "content": _SYSTEM}]
    for request, caption in (*_EXAMPLES, (prompt, None)):
        told.append({"role": "user", "content": f"Request: {request}"})
        if caption is not None:
            told.append({"role": "assistant", "content": caption})
    return told


def version() -> str:
    """Changes whenever the instructions do: answers to older ones are asked for anew."""
    told = repr((messages(""), TEMPERATURE, TOP_P, MAX_NEW_TOKENS))
    return sha256(told.encode()).hexdigest()[:12]
