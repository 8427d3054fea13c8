"""How a call is made; a new provider is a new file here."""
