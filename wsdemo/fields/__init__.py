"""Neural fields: the shared base, its adapters, and fitting one to data."""
