"""How well memory finds the right passage: by meaning, by words, by both."""
