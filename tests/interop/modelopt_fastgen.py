"""nvidia-modelopt's fastgen, imported without the warnings that it and what it imports give while they load."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import modelopt.torch.fastgen as fastgen
    import modelopt.torch.fastgen.flow_matching as flow_matching
    import modelopt.torch.fastgen.methods.dmd as dmd
    import modelopt.torch.fastgen.pipeline as pipeline
    import modelopt.torch.fastgen.utils as utils

__all__ = ["dmd", "fastgen", "flow_matching", "pipeline", "utils"]
