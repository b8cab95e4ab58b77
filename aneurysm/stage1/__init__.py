"""Stage 1: a CNN or ViT over windows of a few slices."""
