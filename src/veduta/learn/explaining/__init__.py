"""Why a trained network gives its scores: class maps and saliency, with gradients."""
