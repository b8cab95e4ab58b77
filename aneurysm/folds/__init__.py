"""What to train on: folds, localizers, spots, and tables of answers by fold."""
