"""Public collections of labelled LoRAs → a folder and a labels.csv, as ``lol train`` takes them."""
