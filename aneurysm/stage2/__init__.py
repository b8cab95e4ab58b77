"""Stage 2: a transformer over the slices of a series, from the outputs of stage 1 to the 14 labels."""
