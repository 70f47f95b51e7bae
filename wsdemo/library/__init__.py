"""Thousands of LoRAs as one table: built once, queried, compared, mapped."""
