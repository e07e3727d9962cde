"""Networks: their layers, their backbones, and how a recipe describes them."""
