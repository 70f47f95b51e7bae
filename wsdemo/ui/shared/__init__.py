"""What all tabs share: events, words, looks."""
