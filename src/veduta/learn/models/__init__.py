"""Networks: their layers, backbones and summaries, and a projection of descriptors."""
