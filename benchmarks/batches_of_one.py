"""The command line of Veduta, with a service that encodes each photo by itself."""

from __future__ import annotations

from veduta.__main__ import main
from veduta.web.batched_encoder import BatchedEncoder

if __name__ == "__main__":
    defaults = BatchedEncoder.__init__.__kwdefaults__
    assert defaults is not None
    defaults["max_photos"] = 1
    main()
