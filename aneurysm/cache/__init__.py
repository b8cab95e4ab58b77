"""Series as training and prediction read them: preprocessed, stored, and cut into windows."""
