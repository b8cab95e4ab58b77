"""Stage 2: a transformer over the slices of one series, as stage 1 has described them, answers with the 14 labels."""
