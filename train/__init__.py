"""Stage 2, train: cached streams -> folds -> masked batches -> heads -> runs. Never opens media or an encoder."""
