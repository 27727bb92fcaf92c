"""The epochs of a training as they happen: a file of epochs, event files, trackers of their own."""
