"""The training loop of all models; a batch is a dict of tensors, of slices, series or volumes."""
