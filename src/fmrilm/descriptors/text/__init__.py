"""From measures to sentences, and from sentences back to claims."""
