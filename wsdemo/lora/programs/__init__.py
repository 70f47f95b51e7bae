"""What each program makes of a file: which tensors it reads, and how strong the update then is."""
