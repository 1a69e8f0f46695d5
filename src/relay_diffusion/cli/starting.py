"""The ``--image`` option: a picture that another one starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relay_diffusion.errors import RelayError
from relay_diffusion.files import sha256_of

if TYPE_CHECKING:
    from PIL import Image

    from relay_diffusion.pipelines.metadata import UsedImage


def open_image(
    path: Path | None, before: UsedImage | None = None
) -> tuple[Image.Image, UsedImage] | None:
    """The picture that is asked for, else the one that a picture was started from; None if neither.

    Args:
        before: of the picture that is made again.
    Raises: RelayError if it cannot be read, or has changed since the picture was made.
    """
    from relay_diffusion.pipelines.metadata import UsedImage
    from relay_diffusion.pipelines.pictures import open_picture

    if path is not None:
        return open_picture(path), UsedImage(str(path), sha256_of(path))
    if before is None:
        return None
    picture = open_picture(Path(before.path))
    if sha256_of(Path(before.path)) != before.sha256:
        raise RelayError(
            f"the picture {before.path} has changed since another was started from it, which "
            f"cannot be made again; --image {before.path} takes the new one"
        )
    return picture, before
