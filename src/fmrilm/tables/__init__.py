"""Tables as people keep them: text, people, columns, families, events, HDF5."""
