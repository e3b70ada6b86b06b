"""Making a picture again from its image id, without a cluster: the same bytes, or a refusal."""

from pathlib import Path

from diffusion_server.image_id import read_image_id
from diffusion_server.opening import OpeningRefusedError, checked_reference, load_verified, painter_of, served_model
from diffusion_server.picture import to_png


def redraw(image_id: str, model: str, models_directory: Path, scratch: Path) -> bytes:
    """The PNG file that `image_id` stands for, drawn from the model version `model` (pvc://CLAIM/NAME@sha256:HEX).

    Raises ValueError for what is not an image id, and OpeningRefusedError where the model is another one or cannot
    be opened.
    """
    digest, sample = read_image_id(image_id)
    reference = checked_reference(model)
    if reference.digest != digest:
        raise OpeningRefusedError("ModelDigestMismatch", f"the image was made by {digest}, not by {reference.digest}")
    loaded = load_verified(reference, models_directory, scratch)
    painter = painter_of(loaded, sample.sampler)
    state = painter.begin(sample)
    for _ in range(sample.steps):
        painter.step([state])
    served = served_model(loaded, reference)
    return to_png(painter.finish(state), served.width, served.height)
