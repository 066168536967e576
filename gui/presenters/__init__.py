"""What panels show, decided without Qt: text, colour, symbol, enabled."""
