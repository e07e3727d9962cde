"""From a photo to one global descriptor.

`load_encoder` opens an encoder by name. `Encoder.prepare` and `Encoder.encode` turn photos into
descriptors. `list_encoders` lists the encoders. `fit_projection` whitens descriptors. An encoder's
`identity` changes with anything that changes its descriptors, so an index can refuse descriptors of
another encoder.
"""

from veduta.encoders.encoder import Encoder
from veduta.encoders.listing import list_encoders
from veduta.encoders.loading import OtherModel, load_encoder, load_named_in_file, open_encoder
from veduta.encoders.onnx_encoder import OnnxEncoder
from veduta.encoders.presets import DEFAULT, PRESETS
from veduta.encoders.projection import Projection, fit_projection
from veduta.encoders.settings import Settings, Source
from veduta.encoders.sources import name_without_folders, resolve
from veduta.encoders.spec import EncoderSpec

__all__ = [
    "DEFAULT",
    "PRESETS",
    "Encoder",
    "EncoderSpec",
    "OnnxEncoder",
    "OtherModel",
    "Projection",
    "Settings",
    "Source",
    "fit_projection",
    "list_encoders",
    "load_encoder",
    "load_named_in_file",
    "name_without_folders",
    "open_encoder",
    "resolve",
]
