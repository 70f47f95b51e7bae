"""The forms that an update is stored in, each as a function from its tensors to U and V."""
