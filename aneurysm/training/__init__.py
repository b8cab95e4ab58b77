"""The one training loop; it knows no slices and no volumes: a batch is a dict of tensors."""
